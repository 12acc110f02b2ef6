"""Checkpoints that earlier versions wrote load, and predict what they predicted then."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS

import medseg
from medseg import checkpoint
from medseg.geometry.grid import Grid

FOLDER = Path(__file__).parent / "checkpoints"
FILES = sorted(FOLDER.glob("*.ckpt"))


def grid_of(file: Path, shape: tuple[int, ...]) -> Grid:
    """The grid that the image had when its label was written."""
    if len(shape) == 3:
        return Grid.regular(shape, checkpoint.read(file).metadata.plan.spacing)
    return Grid(shape, np.array([[0, 10, 500005.0], [-10, 0, 4199995.0], [0, 0, 1]]), CRS.from_epsg(32633).to_wkt())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_predicts_what_it_predicted(file: Path) -> None:
    held = np.load(file.with_suffix(".npz"))
    prob = np.sort(held["prob"].astype(np.float32), axis=0)
    sure = prob[-1] - prob[-2] > 0.01  # where no rounding decides
    assert sure.mean() > 0.5
    predicted = medseg.load(file, device="cpu")(held["image"], grid_of(file, held["label"].shape))
    np.testing.assert_array_equal(predicted[sure], held["label"][sure])
    assert (predicted != held["label"]).mean() < 0.01


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_configuration_is_read_with_todays_names(file: Path) -> None:
    loaded = checkpoint.read(file)
    assert loaded.stored["format"] == checkpoint.FORMAT
    assert {"model", "data"} <= loaded.metadata.config.keys()
    assert loaded.metadata.to_dict() == loaded.stored


def test_there_are_files_of_every_earlier_format() -> None:
    formats = {int(file.stem.split("_")[1]) for file in FILES}
    assert formats == set(range(1, checkpoint.FORMAT))
