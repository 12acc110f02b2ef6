import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from medseg.errors import InputError
from medseg.formats.georeference import grid_of
from medseg.formats.geotiff import unreferenced_unsaid
from medseg.formats.sink import RasterSink, class_nodata
from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable

TABLE = LabelTable.declare({"land": 0, "water": 1, "ice & snow": 4}, colours={"water": (10, 20, 200)})
UTM = CRS.from_epsg(32611)
NORTH = Affine(10.3, 0, 600000.1, 0, -10.3, 4000000.7)
TRANSFORMS = {
    "north": NORTH,
    "south": Affine(10.3, 0, 600000.1, 0, 10.3, 4000000.7),
    "rotated": NORTH @ Affine.rotation(33.3),
    "not square": Affine(0.1, 0, -121.123456789, 0, -0.03, 38.987654321),
}


def classes(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape)
    label = np.array([0, 1, 4], np.uint8)[(rows // 40 + columns // 30) % 3]
    label[:30, :50] = 255
    return label


def write(target: Path, label: np.ndarray, grid: Grid, key: str = "key", step: int = 64, **given: Any) -> RasterSink:
    sink = RasterSink(target, grid, dtype=label.dtype, key=key, **given)
    for row in range(sink.rows_done, len(label), step):
        sink.append(label[None, row : row + step])
    return sink


@pytest.mark.parametrize("name", TRANSFORMS)
def test_target_is_tiled_and_lies_where_the_grid_says(name: str, tmp_path: Path) -> None:
    transform, label = TRANSFORMS[name], classes((700, 1100))
    grid = grid_of(Path("scene"), label.shape, transform, UTM)
    target = write(tmp_path / "scene.tif", label, grid).finish(labels=TABLE, tags={"checkpoint": "a<b"})
    with rasterio.open(target) as scene:
        assert scene.transform == transform
        assert scene.crs.to_wkt() == UTM.to_wkt()
        assert grid_of(target, scene.shape, scene.transform, scene.crs).affine.tolist() == grid.affine.tolist()
        assert scene.block_shapes == [(512, 512)]
        assert scene.overviews(1) == [2, 4]
        assert scene.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert scene.compression.name == "deflate"
        assert scene.nodata == 255
        np.testing.assert_array_equal(scene.read(1), label)
        assert (scene.read_masks(1) == 0).sum() == 30 * 50
        assert scene.tags()["checkpoint"] == "a<b"
        assert json.loads(scene.tags()["CLASS_NAMES"]) == {"0": "land", "1": "water", "4": "ice & snow"}
        palette = scene.colormap(1)
    assert [palette[c.saved][:3] for c in TABLE.classes] == [c.colour for c in TABLE.classes]
    assert palette[1] == (10, 20, 200, 255)
    assert "<Category>ice &amp; snow</Category>" in (tmp_path / "scene.tif.aux.xml").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.tif", "scene.tif.aux.xml"]


def test_image_without_a_world_gets_none(tmp_path: Path) -> None:
    label = classes((60, 90))
    target = write(tmp_path / "photo.tif", label, Grid.regular(label.shape, (1, 1), PIXEL)).finish(labels=TABLE)
    with unreferenced_unsaid(), rasterio.open(target) as scene:
        assert scene.crs is None
        assert scene.transform == Affine.identity()
        np.testing.assert_array_equal(scene.read(1), label)


def test_overviews_are_of_the_most_frequent_class(tmp_path: Path) -> None:
    label = np.zeros((600, 600), np.uint8)
    label[::2, ::2] = 4  # a quarter, on the cells that nearest would take
    grid = Grid.regular(label.shape, (10, 10), UTM.to_wkt())
    target = write(tmp_path / "scene.tif", label, grid).finish(labels=TABLE)
    with rasterio.open(target, overview_level=0) as half:
        assert half.shape == (300, 300)
        assert not half.read(1).any()


def test_probabilities_are_several_bands_with_a_scale(tmp_path: Path) -> None:
    prob = np.random.default_rng(0).integers(0, 255, (3, 70, 90)).astype(np.uint8)
    prob[:, 5] = 255
    sink = RasterSink(
        tmp_path / "p.tif", Grid.regular((70, 90), (10, 10), UTM.to_wkt()), dtype="uint8", key="", n_bands=3
    )
    for row in range(0, 70, 7):
        sink.append(prob[:, row : row + 7])
    with rasterio.open(sink.finish(names=["land", "water", "ice"], scale=1 / 254)) as scene:
        np.testing.assert_array_equal(scene.read(), prob)
        assert scene.descriptions == ("land", "water", "ice")
        assert scene.scales == (1 / 254,) * 3
        assert scene.nodatavals == (255,) * 3
        assert "CLASS_NAMES" not in scene.tags()
    assert not (tmp_path / "p.tif.aux.xml").exists()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32", "float32", "int8"])
def test_types_are_kept(dtype: str, tmp_path: Path) -> None:
    cells = np.arange(30 * 40).reshape(30, 40).astype(dtype)
    grid = Grid.regular(cells.shape, (10, 10), UTM.to_wkt())
    with rasterio.open(write(tmp_path / "c.tif", cells, grid, nodata=7).finish(labels=TABLE)) as scene:
        assert scene.dtypes == (dtype,)
        np.testing.assert_array_equal(scene.read(1), cells)
        assert dtype != "uint16" or scene.colormap(1)[1] == (10, 20, 200, 255)


@pytest.fixture
def grid() -> Grid:
    return Grid.regular((300, 100), (10, 10), UTM.to_wkt())


def test_whole_rows_outlive_the_sink(tmp_path: Path, grid: Grid) -> None:
    target, label = tmp_path / "scene.tif", classes(grid.shape)
    with RasterSink(target, grid, dtype="uint8", key="a") as sink:
        sink.append(label[None, :120])
    part = tmp_path / ".scene.tif.part"
    with part.open("ab") as stream:  # a row of which only a part was written
        stream.write(b"x" * 99)
    with RasterSink(target, grid, dtype="uint8", key="a") as sink:
        assert sink.rows_done == 120
    os.truncate(part, 50 * 100 + 1)  # cut short, as by a machine that went down
    with RasterSink(target, grid, dtype="uint8", key="a") as sink:
        assert sink.rows_done == 50
        with pytest.raises(ValueError, match="50 of 300 rows are there"):
            sink.finish()
    assert not target.exists()
    with rasterio.open(write(target, label, grid, "a").finish()) as scene:
        np.testing.assert_array_equal(scene.read(1), label)


def test_rows_can_be_forgotten(tmp_path: Path, grid: Grid) -> None:
    label = classes(grid.shape)
    with RasterSink(tmp_path / "scene.tif", grid, dtype="uint8", key="a") as sink:
        sink.append(label[None, :120] + np.uint8(1))
        sink.keep(0)
        sink.append(label[None, :90])
        sink.keep(40)
        assert sink.rows_done == 40
    with rasterio.open(write(tmp_path / "scene.tif", label, grid, "a").finish()) as scene:
        np.testing.assert_array_equal(scene.read(1), label)


@pytest.mark.parametrize("other", [{"key": "b"}, {"dtype": "uint16"}, {"n_bands": 2}])
def test_rows_of_something_else_are_thrown_away(other: dict[str, Any], tmp_path: Path, grid: Grid) -> None:
    with RasterSink(tmp_path / "scene.tif", grid, dtype="uint8", key="a") as sink:
        sink.append(classes(grid.shape)[None])
    with RasterSink(tmp_path / "scene.tif", grid, **{"dtype": "uint8", "key": "a", **other}) as sink:
        assert sink.rows_done == 0
    with RasterSink(tmp_path / "scene.tif", grid, **{"dtype": "uint8", "key": "a", **other}) as sink:
        assert sink.rows_done == 0
    wider = Grid.regular((300, 50), (10, 10), UTM.to_wkt())
    with RasterSink(tmp_path / "scene.tif", wider, dtype="uint8", key="a") as sink:
        assert sink.rows_done == 0


def test_one_writer_at_a_time(tmp_path: Path, grid: Grid) -> None:
    with (
        RasterSink(tmp_path / "scene.tif", grid, dtype="uint8", key="a"),
        pytest.raises(InputError, match=r"scene.tif: another process is writing it"),
    ):
        RasterSink(tmp_path / "scene.tif", grid, dtype="uint8", key="a")
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        RasterSink(tmp_path / "no" / "scene.tif", grid, dtype="uint8", key="a")


def test_cells_that_do_not_fit_are_refused(tmp_path: Path, grid: Grid) -> None:
    with RasterSink(tmp_path / "scene.tif", grid, dtype="uint8", key="a") as sink:
        for cells in (np.zeros((2, 3, 100)), np.zeros((1, 3, 99)), np.zeros((1, 3, 100))):
            with pytest.raises(ValueError, match="for 1 bands"):
                sink.append(cells if cells.shape == (1, 3, 100) else cells.astype(np.uint8))
        with pytest.raises(ValueError, match="got 301 rows after 0 of 300"):
            sink.append(np.zeros((1, 301, 100), np.uint8))


def test_older_class_names_do_not_stay_beside_a_new_target(tmp_path: Path, grid: Grid) -> None:
    target = write(tmp_path / "scene.tif", classes(grid.shape), grid).finish(labels=TABLE)
    write(target, classes(grid.shape), grid).finish()
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_transform_of_another_file_is_copied(tmp_path: Path) -> None:
    label, path = classes((60, 90)), tmp_path / "source.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=60, width=90, count=1, dtype="uint8", crs=UTM, transform=NORTH
    ) as scene:
        scene.write(label[None])
    grid = grid_of(path, label.shape, NORTH, UTM)
    moved = Grid(grid.shape, grid.affine + np.array([[0, 0, 1e-9], [0, 0, 0], [0, 0, 0]]), grid.frame)
    with rasterio.open(write(tmp_path / "scene.tif", label, moved, like=path).finish()) as scene:
        assert scene.transform == NORTH


_WRITER = """
import sys, numpy as np
from pathlib import Path
from medseg.formats.sink import RasterSink
from medseg.geometry.grid import Grid
sink = RasterSink(Path(sys.argv[1]), Grid.regular((100_000, 64), (1, 1), "pixel"), dtype="uint16", key="k", n_bands=2)
print("ready", flush=True)
for row in range(sink.rows_done, 100_000):
    sink.append(np.full((2, 1, 64), row % 60_000, np.uint16))
"""


def test_a_killed_process_leaves_whole_rows(tmp_path: Path) -> None:
    target, grid = tmp_path / "scene.tif", Grid.regular((100_000, 64), (1, 1), PIXEL)
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(target)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        part = tmp_path / ".scene.tif.part"
        while part.stat().st_size < 2000:
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
    with RasterSink(target, grid, dtype="uint16", key="k", n_bands=2) as sink:
        done = sink.rows_done
    assert 0 < done < 100_000
    rows = np.fromfile(part, np.uint16).reshape(-1, 128)
    assert len(rows) == done
    assert (rows == (np.arange(done) % 60_000)[:, None]).all()


def test_nodata_of_classes() -> None:
    assert class_nodata(TABLE) == 255
    assert class_nodata(LabelTable.declare({"a": 0, "b": 255, "c": 254})) == 253
    assert class_nodata(LabelTable.declare({"a": 0, "b": 300})) == 65535
    assert class_nodata(LabelTable.declare({"a": -1, "b": 0}, background=None)) == 127
    assert class_nodata(LabelTable.declare({str(i): i for i in range(256)}, background=None)) == 256


def test_a_name_of_240_letters_is_written_and_resumed(tmp_path: Path, grid: Grid) -> None:
    target, label = tmp_path / ("a" * 236 + ".tif"), classes(grid.shape)
    with RasterSink(target, grid, dtype="uint8", key="a") as sink:
        sink.append(label[None, :120])
    with RasterSink(target, grid, dtype="uint8", key="a") as sink:
        assert sink.rows_done == 120
        sink.append(label[None, 120:])
        with rasterio.open(sink.finish(labels=TABLE)) as scene:
            np.testing.assert_array_equal(scene.read(1), label)
    assert {path.name for path in tmp_path.iterdir()} <= {target.name, f"{target.name}.aux.xml"}
