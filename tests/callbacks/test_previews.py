from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from medseg.callbacks.previews import Previews
from medseg.checkpoint import RunMetadata
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.labels import IGNORE, LabelTable
from medseg.loggers.image_logger import PictureLogger
from medseg.sample import Batch, Channel, DataSpec
from medseg.viz import false_colour
from medseg.viz.logged_images import Picture
from medseg.viz.logged_images import pictures as pictures_of
from medseg.viz.overlay import Panels
from tests import tiny_checkpoint

TABLE = LabelTable.declare({"background": 0, "organ": 1})
SPEC = {ndim: DataSpec((Channel("grey"),), TABLE, ndim) for ndim in (2, 3)}


class Watcher(PictureLogger):
    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, Any], int]] = []

    def log_pictures(self, pictures: Any, step: int) -> None:
        self.logged.append((dict(pictures), step))


def batch(case: str, ndim: int) -> Batch:
    shape = (1, 3, 4, 5)[: ndim + 1]
    label = torch.zeros(shape, dtype=torch.int64)
    label[..., 0] = 1
    label[:, 0, 0] = IGNORE
    image = torch.arange(label.numel(), dtype=torch.float32).reshape(1, *shape)
    valid, present = torch.ones(shape, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    return Batch(image, label, valid, present, torch.zeros(1, 3, dtype=torch.int64), (case,))


def method(spec: DataSpec) -> Any:
    infer = Mock(side_effect=lambda image, network: (image[0] % 2).long())
    plan = replace(tiny_checkpoint.PLAN, spacing=(1.0,) * spec.ndim)
    return Mock(spec=LightningModule, infer=infer, network=None, metadata=RunMetadata({}, spec, plan, {}))


def trainer(*loggers: Any) -> Any:
    return Mock(spec=Trainer, loggers=list(loggers), global_step=7)


def sent(judged: Any, batches: list[Batch], cases: int = 2) -> dict[str, list[Picture]]:
    """What loggers that show pictures get."""
    watcher, callback = Watcher(), Previews(cases=cases)
    running = trainer(watcher)
    for index, shown in enumerate(batches):
        callback.on_validation_batch_end(running, judged, None, shown, index)
    callback.on_validation_end(running, judged)
    callback.on_validation_end(running, judged)
    ((pictures, step),) = watcher.logged
    assert step == 7
    return pictures


@pytest.mark.parametrize("ndim", [2, 3])
def test_first_cases_are_sent_with_masks_and_names(ndim: int) -> None:
    judged = method(SPEC[ndim])
    pictures = sent(judged, [batch(case, ndim) for case in "abc"])
    assert judged.infer.call_count == 2, "cases that are not shown are not predicted again"
    assert set(pictures) == {"val/previews/a", "val/previews/b"}
    views = pictures["val/previews/a"]
    image, label = batch("a", ndim).image[0, 0].numpy(), batch("a", ndim).label[0].numpy()
    grid = Grid.regular(label.shape, (1,) * ndim, RAS_MM if ndim == 3 else PIXEL)
    expected = pictures_of(Panels.of(image, label, (image % 2).astype(int), TABLE, grid), "a")
    assert [view.caption for view in views] == [view.caption for view in expected]
    assert len(views) == (1 if ndim == 2 else 3)
    for view, right in zip(views, expected, strict=True):
        np.testing.assert_array_equal(view.ground, right.ground)
        assert set(view.masks) == {"label", "prediction"}
        for name, mask in view.masks.items():
            np.testing.assert_array_equal(mask, right.masks[name])
        assert view.names == {0: "background", 1: "organ", 2: "ignored"}


def test_volume_is_as_thick_as_the_plan_says() -> None:
    judged = method(SPEC[3])
    plan = replace(tiny_checkpoint.PLAN, spacing=(1.0, 1.0, 2.0))
    judged.metadata = replace(judged.metadata, plan=plan)
    thin, thick = (sent(m, [batch("a", 3)])["val/previews/a"][1] for m in (method(SPEC[3]), judged))
    assert (thin.ground.shape[0], thick.ground.shape[0]) == (5, 10)


def test_scene_is_a_reduced_composite_without_its_invalid_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(false_colour, "LARGEST", 3)
    channels = tuple(Channel(f"c{nm}", wavelength_nm=nm) for nm in (490.0, 665.0, 842.0, 2200.0))
    scene = batch("a", 2)
    scene.image = torch.arange(48, dtype=torch.float32).reshape(1, 4, 3, 4).flip(1)
    scene.valid[0, 0, 0] = False
    (view,) = sent(method(DataSpec(channels, TABLE, 2)), [scene])["val/previews/a"]
    expected = false_colour.composite(scene.image[0, :, ::2, ::2].numpy(), channels, scene.valid[0, ::2, ::2].numpy())
    np.testing.assert_array_equal(view.ground, expected)
    assert view.ground.shape == (2, 2, 3)
    assert view.ground[0, 0].tolist() == [false_colour.NO_DATA] * 3
    assert view.masks["label"].shape == (2, 2)


def test_without_a_logger_of_pictures_nothing_is_predicted(tmp_path: Any) -> None:
    callback, judged = Previews(), method(SPEC[3])
    callback.on_validation_batch_end(trainer(CSVLogger(tmp_path)), judged, None, batch("a", 3), 0)
    callback.on_validation_end(trainer(CSVLogger(tmp_path)), judged)
    assert judged.infer.call_count == 0


def test_of_a_series_its_fullest_date_is_shown_and_the_network_told_its_dates() -> None:
    single = batch("a", 2)
    image = torch.stack([torch.zeros_like(single.image), single.image], 1)
    series = replace(single, image=image, present=torch.ones(1, 2, 1, dtype=torch.bool), days=torch.tensor([[3, 9]]))
    judged = method(SPEC[2])
    judged.infer.side_effect = lambda image, network, present, days: (image[1, 0] % 2).long()
    (view,) = sent(judged, [series])["val/previews/a"]
    (expected,) = sent(method(SPEC[2]), [single])["val/previews/a"]
    np.testing.assert_array_equal(view.ground, expected.ground)
    assert judged.infer.call_args.kwargs["days"].tolist() == [3, 9]
