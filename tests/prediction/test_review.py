from pathlib import Path

import numpy as np
import pytest

from medseg import formats
from medseg.formats.geotiff_write import write as write_tif
from medseg.formats.nifti import write_bands
from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable
from medseg.prediction import review
from medseg.prediction.bands import SCALE
from medseg.prediction.review import CaseUncertainty, write_review

TABLE = LabelTable.declare({"background": 0, "liver": 4})
COVER = LabelTable.declare(["land", "water"], background=None)


def scene(folder: Path, name: str, labels: np.ndarray, bands: np.ndarray) -> str:
    grid = Grid(labels.shape, np.eye(3), PIXEL)
    (folder / "uncertainty").mkdir(exist_ok=True)
    formats.write(folder / f"{name}.tif", labels, grid)
    write_tif(folder / f"uncertainty/{name}.tif", bands, grid, nodata=255, scale=SCALE)
    return f"{name}.tif"


def rows(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def test_least_certain_foreground_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "_ROWS", 3)
    labels = np.zeros((8, 5), np.uint8)
    labels[:2] = 4
    sure, unsure = np.full((1, 8, 5), 254, np.uint8), np.zeros((1, 8, 5), np.uint8)
    sure[0, :2], unsure[0, :2] = 0, 127  # what lies in the background does not count
    names = [scene(tmp_path, "sure", labels, sure), scene(tmp_path, "unsure", labels, unsure)]
    names.append(scene(tmp_path, "empty", np.zeros((8, 5), np.uint8), sure))
    path = write_review(tmp_path, names, TABLE)
    assert rows(path) == [
        ["case", "entropy", "foreground_cells"],
        ["unsure", "0.50000", "10"],
        ["sure", "0.00000", "10"],
        ["empty", "0.75000", "0"],  # of all cells
    ]


def test_several_networks_are_ranked_by_their_disagreement(tmp_path: Path) -> None:
    labels = np.full((2, 2), 4, np.uint8)
    for name, entropy, disagreement in (("a", 200, 0), ("b", 100, 50)):
        scene(tmp_path, name, labels, np.stack([np.full((2, 2), v, np.uint8) for v in (entropy, disagreement)]))
    assert [row[0] for row in rows(write_review(tmp_path, ["a.tif", "b.tif"], TABLE))] == ["case", "b", "a"]


def test_cells_that_are_not_valid_do_not_count() -> None:
    one = CaseUncertainty().add(np.array([4, 4, 0]), np.array([[254, 255, 0]], np.uint8), 0)
    assert (one.cells, one.foreground, one.means) == (2, 1, [pytest.approx(1.0)])
    cover = CaseUncertainty().add(np.array([0, 1, 1]), np.array([[127, 0, 255]], np.uint8), None)
    assert (cover.foreground, cover.means) == (2, [pytest.approx(0.25)])


def test_volumes_are_read_as_they_were_written(tmp_path: Path) -> None:
    grid = Grid.regular((3, 4, 5), (1, 1, 2))
    labels = np.zeros(grid.shape, np.uint8)
    labels[1] = 4
    bands = np.zeros((2, *grid.shape), np.uint8)
    bands[:, 1] = 127
    formats.write(tmp_path / "case.nii.gz", labels, grid)
    (tmp_path / "uncertainty").mkdir()
    write_bands(tmp_path / "uncertainty/case.nii.gz", bands, 2, grid, names=["entropy", "disagreement"], scale=SCALE)
    assert rows(write_review(tmp_path, ["case.nii.gz"], TABLE))[1] == ["case", "0.50000", "0.50000", "20"]
