from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from medseg.callbacks.previews import Previews, busiest_slice, to_plane
from medseg.geometry.grid import Grid, reorient
from medseg.labels import IGNORE, LabelTable
from medseg.report.planes import planes_of
from medseg.sample import Batch

TABLE = LabelTable.declare({"background": 0, "organ": 1})
LPS = np.diag([-1.0, -1, 1, 1])  # axes of DICOM: towards left, posterior, superior
RAS = np.eye(4)
PERMUTED = np.array([[0, 0, -1.0, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [LPS, RAS, PERMUTED])
def test_right_anterior_lands_left_top(affine: np.ndarray) -> None:
    """The patient's right and front, found by world coordinates alone, in a file of any axis order."""
    grid = Grid((5, 6, 7), affine)
    cells = np.argwhere(np.ones(grid.shape, bool))
    world = grid.to_world(cells)
    corner = cells[np.argmax(world @ [100, 100, 1])]  # rightmost and foremost, and among those the highest
    volume = np.zeros(grid.shape)
    volume[tuple(corner)] = 1
    axes, flips = grid.canonical()
    canonical = reorient(volume, axes, flips)
    plane = to_plane(canonical, canonical.shape[2] - 1)
    assert np.argwhere(plane).tolist() == [[0, 0]]
    assert plane.shape == canonical.shape[1::-1]
    axial = planes_of(grid.reorient(axes, flips))[0]
    noise = np.random.default_rng(0).random(canonical.shape)
    np.testing.assert_array_equal(to_plane(noise, 3), axial.cut(noise, 3))


def test_images_are_shown_as_stored() -> None:
    image = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(to_plane(image, None), image)


def test_busiest_slice_counts_foreground_cells() -> None:
    label = np.zeros((4, 4, 5), int)
    assert busiest_slice(label) == 2
    label[0, :3, 1], label[0, :2, 4], label[:, :, 0] = 1, 9, IGNORE
    assert busiest_slice(label) == 1


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


def method() -> Any:
    infer = Mock(side_effect=lambda image, network: (image[0] % 2).long())
    return Mock(spec=LightningModule, infer=infer, network=None, labels=TABLE)


def trainer(*loggers: Any) -> Any:
    return Mock(spec=Trainer, loggers=list(loggers), global_step=7)


@pytest.mark.parametrize("ndim", [2, 3])
def test_first_cases_are_sent_with_masks_and_names(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wandb.Image", lambda grey, **named: (grey, named))
    experiment, callback, judged = Experiment(), Previews(cases=2), method()
    running = trainer(WandbLogger(experiment=experiment))  # type: ignore[arg-type]
    for index, case in enumerate("abc"):
        callback.on_validation_batch_end(running, judged, None, batch(case, ndim), index)
    assert judged.infer.call_count == 2, "cases that are not shown are not predicted again"
    callback.on_validation_end(running, judged)
    callback.on_validation_end(running, judged)
    (row,) = experiment.logged
    assert row["trainer/global_step"] == 7
    assert set(row) == {"val/previews/a", "val/previews/b", "trainer/global_step"}
    grey, named = row["val/previews/a"]
    assert named["caption"] == "a"
    image, label = batch("a", ndim).image[0, 0].numpy(), batch("a", ndim).label[0].numpy()
    position = 0 if ndim == 3 else None  # the slice with foreground
    assert (grey.dtype, grey.min(), grey.max()) == (np.uint8, 0, 255)
    np.testing.assert_array_equal(np.argsort(grey, axis=None), np.argsort(to_plane(image, position), axis=None))
    masks = named["masks"]
    known = np.where(label == IGNORE, 2, label)
    np.testing.assert_array_equal(masks["label"]["mask_data"], to_plane(known, position))
    np.testing.assert_array_equal(masks["prediction"]["mask_data"], to_plane(image % 2, position))
    assert masks["label"]["class_labels"] == {0: "background", 1: "organ", 2: "ignored"}
    assert masks["prediction"]["class_labels"] == {0: "background", 1: "organ"}


def test_without_wandb_nothing_is_predicted(tmp_path: Any) -> None:
    callback, judged = Previews(), method()
    callback.on_validation_batch_end(trainer(CSVLogger(tmp_path)), judged, None, batch("a", 3), 0)
    callback.on_validation_end(trainer(CSVLogger(tmp_path)), judged)
    assert judged.infer.call_count == 0
