from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from medseg.callbacks.previews import Previews
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE, LabelTable
from medseg.report import composite
from medseg.report.planes import planes_of
from medseg.sample import Batch, Channel, DataSpec

TABLE = LabelTable.declare({"background": 0, "organ": 1})
SPEC = {ndim: DataSpec((Channel("grey"),), TABLE, ndim) for ndim in (2, 3)}


class Experiment:
    """Stands for a W&B run."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []

    def log(self, row: dict[str, Any]) -> None:
        self.logged.append(row)


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
    return Mock(spec=LightningModule, infer=infer, network=None, stored={"spec": spec.to_dict()})


def trainer(*loggers: Any) -> Any:
    return Mock(spec=Trainer, loggers=list(loggers), global_step=7)


def sent(judged: Any, batches: list[Batch], monkeypatch: pytest.MonkeyPatch, cases: int = 2) -> dict[str, Any]:
    """What W&B gets: pictures as (cells, settings)."""
    monkeypatch.setattr("wandb.Image", lambda cells, **named: (cells, named))
    experiment, callback = Experiment(), Previews(cases=cases)
    running = trainer(WandbLogger(experiment=experiment))  # type: ignore[arg-type]
    for index, shown in enumerate(batches):
        callback.on_validation_batch_end(running, judged, None, shown, index)
    callback.on_validation_end(running, judged)
    callback.on_validation_end(running, judged)
    (row,) = experiment.logged
    return row


@pytest.mark.parametrize("ndim", [2, 3])
def test_first_cases_are_sent_with_masks_and_names(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = method(SPEC[ndim])
    row = sent(judged, [batch(case, ndim) for case in "abc"], monkeypatch)
    assert judged.infer.call_count == 2, "cases that are not shown are not predicted again"
    assert row["trainer/global_step"] == 7
    assert set(row) == {"val/previews/a", "val/previews/b", "trainer/global_step"}
    cells, named = row["val/previews/a"]
    assert named["caption"] == "a"
    image, label = batch("a", ndim).image[0, 0].numpy(), batch("a", ndim).label[0].numpy()

    def shown(array: np.ndarray) -> np.ndarray:  # of a volume the slice with foreground, the first
        return array if ndim == 2 else planes_of(Grid.regular(label.shape, (1, 1, 1)))[0].cut(array, 0)

    grey = cells[..., 0] if ndim == 2 else cells
    assert (cells.dtype, cells.min(), cells.max()) == (np.uint8, 0, 255)
    assert (np.diff(grey.ravel()[np.argsort(shown(image), axis=None)].astype(int)) >= 0).all()
    masks = named["masks"]
    known = np.where(label == IGNORE, 2, label)
    np.testing.assert_array_equal(masks["label"]["mask_data"], shown(known))
    np.testing.assert_array_equal(masks["prediction"]["mask_data"], shown(image % 2))
    assert masks["label"]["class_labels"] == {0: "background", 1: "organ", 2: "ignored"}
    assert masks["prediction"]["class_labels"] == {0: "background", 1: "organ"}


def test_scene_is_a_reduced_composite_without_its_invalid_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composite, "LARGEST", 3)
    channels = tuple(Channel(f"c{nm}", wavelength_nm=nm) for nm in (490.0, 665.0, 842.0, 2200.0))
    scene = batch("a", 2)
    scene.image = torch.arange(48, dtype=torch.float32).reshape(1, 4, 3, 4).flip(1)
    scene.valid[0, 0, 0] = False
    row = sent(method(DataSpec(channels, TABLE, 2)), [scene], monkeypatch)
    cells, named = row["val/previews/a"]
    expected = composite.composite(scene.image[0, :, ::2, ::2].numpy(), channels, scene.valid[0, ::2, ::2].numpy())
    np.testing.assert_array_equal(cells, expected)
    assert cells.shape == (2, 2, 3)
    assert cells[0, 0].tolist() == [composite.NO_DATA] * 3
    assert named["masks"]["label"]["mask_data"].shape == (2, 2)


def test_without_wandb_nothing_is_predicted(tmp_path: Any) -> None:
    callback, judged = Previews(), method(SPEC[3])
    callback.on_validation_batch_end(trainer(CSVLogger(tmp_path)), judged, None, batch("a", 3), 0)
    callback.on_validation_end(trainer(CSVLogger(tmp_path)), judged)
    assert judged.infer.call_count == 0


def test_of_a_series_its_fullest_date_is_shown_and_the_network_told_its_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    single = batch("a", 2)
    image = torch.stack([torch.zeros_like(single.image), single.image], 1)
    series = replace(single, image=image, present=torch.ones(1, 2, 1, dtype=torch.bool), days=torch.tensor([[3, 9]]))
    judged = method(SPEC[2])
    judged.infer.side_effect = lambda image, network, present, days: (image[1, 0] % 2).long()
    cells, _ = sent(judged, [series], monkeypatch)["val/previews/a"]
    expected, _ = sent(method(SPEC[2]), [single], monkeypatch)["val/previews/a"]
    np.testing.assert_array_equal(cells, expected)
    assert judged.infer.call_args.kwargs["days"].tolist() == [3, 9]
