"""A time series: an image for each date of a case, and one mask."""

from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.datasets.rasters import RastersDataset
from medseg.data.reading.options import ReadOptions
from medseg.doctor import examine
from tests.doctor.sets import ROAD, found, named, scene_grid

DAYS = ("20200101", "20200301")


def write_series(root: Path) -> RastersDataset:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        grid, rng = scene_grid(number), np.random.default_rng(number)
        label = np.zeros(grid.shape, dtype=np.uint8)
        label[10:14, number:] = 1
        formats.write(root / f"masks/f{number}.tif", label, grid)
        for day in DAYS:
            image = rng.normal(100, 10, (2, *grid.shape)).astype(np.float32)
            formats.write_image(root / f"images/f{number}_{day}.tif", image, grid, names=["B4", "B8"])
    return RastersDataset(root, ["B4", "B8"], ROAD, reading=ReadOptions.from_config(nonfinite="mask", dates={}))


def test_every_date_is_examined(tmp_path: Path) -> None:
    source = write_series(tmp_path)
    survey, findings = examine(source)
    assert findings == []
    assert [c.name for c in survey.cases[0].channels] == [
        f"{b} of {d}" for d in ("2020-01-01", "2020-03-01") for b in ("B4", "B8")
    ]


def test_constant_band_of_one_date_and_a_date_twice_are_found(tmp_path: Path) -> None:
    source = write_series(tmp_path)
    path = tmp_path / "images/f1_20200301.tif"
    opened = formats.open(path)
    cells = opened.read()
    cells[1] = 7
    formats.write_image(path, cells, opened.grid, names=["B4", "B8"])
    twin = tmp_path / "images/f2_20200301.tif"
    twin.write_bytes((tmp_path / "images/f2_20200101.tif").read_bytes())
    findings = found(source)
    assert named(findings) == [("constant channel", "warning", ("f1",)), ("duplicated channel", "warning", ("f2",))]
    assert "B8 of 2020-03-01" in findings[0].message


def test_mask_without_dates_is_an_orphan_and_the_others_are_examined(tmp_path: Path) -> None:
    source = write_series(tmp_path)
    for day in DAYS:
        (tmp_path / f"images/f3_{day}.tif").unlink()
    survey, findings = examine(source)
    assert named(findings) == [("orphan", "error", ("f3",))]
    assert [facts.id for facts in survey.cases] == ["f0", "f1", "f2"]
