"""Scenes and images from file to file: train, predict, evaluate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio

import medseg
from medseg import formats
from medseg.errors import InputError
from medseg.evaluation.evaluate import evaluate
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.tiny import utm_grid, write_planar

TABLE = "data.labels={background: 0, road: 1, river: 7, ignore: 9}"
OWN = {
    "rasters": ["data.channels=[B4, B8, {NDVI: '(B8-B4)/(B8+B4)'}]", TABLE],
    "images": ["data.channels=[R, G, B]", TABLE],
}
TINY = (
    "logger=csv", "trainer.steps_per_epoch=10", "plan.patch=[32,32]", "plan.batch_size=4", "model=smp_unet",
    "model.encoder=tu-test_resnet", "model.decoder_channels=[16,16,16,16,16]", "optimizer.lr=0.01",
    "trainer.max_steps=30", "trainer.accelerator=cpu", "trainer.precision=32-true", "callback={}", "transform=light",
    "metric=scene", "judged=last", "split.n_folds=3",
)  # fmt: skip


def trained(folder: Path, kind: str, *overrides: str) -> Path:
    own = [f"data={kind}", f"data.root={folder}/raw", *OWN[kind]]
    write_planar(folder / "raw", compose("train", own), shape=(40, 56))
    places = [f"cache_dir={folder}/cache", f"run_dir={folder}/run"]
    return train(compose("train", [*own, *places, *TINY, *overrides]))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    trained(folder, "rasters", "sampling=class", "metric.auc=true")
    return folder


def predicted(folder: Path, out: str, *overrides: str, images: str = "raw/images") -> list[Path]:
    given = [f"checkpoint={folder}/run/checkpoints/last.ckpt", f"input={folder}/{images}", f"output={folder}/{out}"]
    return predict(compose("predict", [*given, *overrides]))


def test_a_run_learns_stripes_and_tells_pooled_scores(scenes: Path) -> None:
    told = json.loads((scenes / "run/metrics.json").read_text(encoding="utf-8"))
    assert told["summary"]["miou"]["mean"] > 0.8
    assert set(told["classes"]) == {"road", "river"}
    assert np.array(told["confusion"]["matrix"]).sum() == 40 * 56
    assert told["policy"]["checkpoint"] == "last"
    assert 0.9 < told["classes"]["road"]["auc"]["mean"] <= 1
    assert "auc" in (scenes / "run/cases.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert "<th>AUC</th>" in (scenes / "run/report.html").read_text(encoding="utf-8")


def test_maps_lie_on_the_very_grid_and_score_as_in_the_run(scenes: Path) -> None:
    paths = predicted(scenes, "maps")
    assert [p.name for p in paths] == ["case_0.tif", "case_1.tif", "case_2.tif"]
    with rasterio.open(paths[0]) as found, rasterio.open(scenes / "raw/images/case_0.tif") as source:
        assert (found.transform, found.crs, found.shape) == (source.transform, source.crs, source.shape)
        assert json.loads(found.tags()["CLASS_NAMES"]) == {"0": "background", "1": "road", "7": "river"}
        assert found.nodata == 255
        assert set(np.unique(found.read())) <= {0, 1, 7}
    told = json.loads((scenes / "run/metrics.json").read_text(encoding="utf-8"))
    (case,) = {row["case"] for row in told["cases"]}
    for folder, name in (("maps", "predictions"), ("raw/masks", "labels")):
        (scenes / name).mkdir(exist_ok=True)
        (scenes / name / f"{case}.tif").write_bytes((scenes / folder / f"{case}.tif").read_bytes())
    names = "names={background: 0, road: 1, river: 7}"
    places = [f"predictions={scenes}/predictions", f"labels={scenes}/labels", f"output={scenes}/scores"]
    evaluate(compose("evaluate", [*places, names]))
    scored = json.loads((scenes / "scores/metrics.json").read_text(encoding="utf-8"))
    assert scored["confusion"] == told["confusion"]
    assert "auc" not in scored["summary"]
    assert scored["policy"]["auc"].startswith("not there: label files hold no probabilities")
    assert "<dt>AUC</dt><dd>not there" in (scenes / "scores/report.html").read_text(encoding="utf-8")


def test_probabilities_and_polygons_lie_in_folders_of_their_own(scenes: Path) -> None:
    predicted(scenes, "more", "probabilities=true", "polygons=true")
    with (
        rasterio.open(scenes / "more/probabilities/case_1.tif") as prob,
        rasterio.open(scenes / "more/case_1.tif") as made,
    ):
        assert prob.descriptions == ("background", "road", "river")
        layers = prob.read()
        index = np.array([0, 1, 7])[layers.argmax(0)]
        sure = np.sort(layers, axis=0)[-1] > np.sort(layers, axis=0)[-2]
        np.testing.assert_array_equal(index[sure], made.read(1)[sure])
        assert abs(layers.sum(axis=0).astype(int) - 254).max() <= 2
    assert formats.VECTORS[0] == ".gpkg"
    assert (scenes / "more/polygons/case_1.gpkg").is_file()


def test_nodata_of_a_scene_is_nodata_of_its_map(scenes: Path) -> None:
    source = formats.open(scenes / "raw/images/case_0.tif")
    image = source.read()
    image[:, 5:9, 7:30] = -1
    (scenes / "holes").mkdir()
    formats.write_image(scenes / "holes/a.tif", image, source.grid, names=source.names, nodata=-1)
    (path,) = predicted(scenes, "holed", images="holes")
    with rasterio.open(path) as found:
        hole = found.read(1) == 255
    expected = np.zeros((40, 56), bool)
    expected[5:9, 7:30] = True
    np.testing.assert_array_equal(hole, expected)


def test_a_killed_run_goes_on_to_the_same_map(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = predicted(scenes, "once", images="raw/images/case_2.tif")
    from medseg.formats.sink import RasterSink

    append, asked = RasterSink.append, []

    def fail(self: Any, cells: Any) -> None:
        if self.rows_done >= 10:
            raise KeyboardInterrupt
        append(self, cells)

    monkeypatch.setattr(RasterSink, "append", fail)
    with pytest.raises(KeyboardInterrupt):
        predicted(scenes, "twice", images="raw/images/case_2.tif")
    assert not (scenes / "twice/case_2.tif").exists()
    assert (scenes / "twice/.case_2.tif.part").exists()
    monkeypatch.setattr(
        RasterSink, "append", lambda self, cells: (asked.append(self.rows_done), append(self, cells))[1]
    )
    (path,) = predicted(scenes, "twice", images="raw/images/case_2.tif")
    assert asked[0] > 0, "it began again from the first row"
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in path.parent.glob(".*")) == []


def test_polygons_have_a_mean_probability_and_are_simplified(scenes: Path) -> None:
    words = ["probabilities=true", "polygons=true", "polygon_min_cells=5", "polygon_simplify_m=20"]
    predicted(scenes, "simple", *words, images="raw/images/case_2.tif")
    table = pyogrio.read_dataframe(scenes / "simple/polygons/case_2.gpkg")
    assert [*table] == ["class", "value", "area_m2", "mean_probability", "geometry"]
    assert table.mean_probability.between(1 / 3, 1).all()
    assert table.area_m2.min() >= 500
    assert table.geometry.is_valid.all()


def test_polygons_are_added_to_a_finished_map_and_small_ones_left_out(scenes: Path) -> None:
    (path,) = predicted(scenes, "added", images="raw/images/case_2.tif")
    whole, stamp = path.read_bytes(), path.stat().st_mtime_ns
    predicted(scenes, "added", "polygons=true", images="raw/images/case_2.tif")
    every = pyogrio.read_info(scenes / "added/polygons/case_2.gpkg")["features"]
    largest = pyogrio.read_dataframe(scenes / "added/polygons/case_2.gpkg").area_m2.max()
    least = f"polygon_min_area_m2={largest}"
    predicted(scenes, "added", "polygons=true", least, images="raw/images/case_2.tif")
    assert 1 <= pyogrio.read_info(scenes / "added/polygons/case_2.gpkg")["features"] <= every
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (whole, stamp)
    predicted(scenes, "added", "probabilities=true", images="raw/images/case_2.tif")
    assert (scenes / "added/probabilities/case_2.tif").is_file()
    assert path.read_bytes() == whole


def test_tiles_of_one_area_become_one_map(scenes: Path) -> None:
    source = formats.open(scenes / "raw/images/case_1.tif")
    (scenes / "tiles").mkdir()
    for name, box in {"west": Box((0, 0), (40, 30)), "east": Box((0, 24), (40, 56))}.items():
        formats.write_image(scenes / f"tiles/{name}.tif", source.read(box), source.grid.crop(box), names=source.names)
    (path,) = predicted(scenes, "mosaic", "mosaic=area", images="tiles")
    (whole,) = predicted(scenes, "apart", images="raw/images/case_1.tif")
    assert path.name == "area.tif"
    with rasterio.open(path) as joined, rasterio.open(whole) as once:
        np.testing.assert_array_equal(joined.read(), once.read())
        assert joined.transform.almost_equals(once.transform)


def test_windows_from_files_train_as_windows_from_the_store(scenes: Path, tmp_path: Path) -> None:
    def rows(store: str) -> str:
        own = [f"data.root={scenes}/raw", "data=rasters", *OWN["rasters"], f"loader.store={store}", "test=false"]
        places = [f"cache_dir={tmp_path}/{store}", f"run_dir={tmp_path}/run-{store}", "trainer.max_steps=10"]
        return (train(compose("train", [*own, *TINY, *places])) / "metrics.csv").read_text(encoding="utf-8")

    assert rows("true") == rows("false")
    assert not list((tmp_path / "false").rglob("*.b2nd"))


def test_blocks_of_scenes_are_cases(scenes: Path, tmp_path: Path) -> None:
    own = [f"data.root={scenes}/raw", "data=rasters", *OWN["rasters"], "split.blocks={size: 20, buffer: 4}"]
    run_dir = train(
        compose("train", [*own, *TINY, f"cache_dir={tmp_path}", f"run_dir={tmp_path}/run", "trainer.max_steps=2"])
    )
    cases = {row["case"] for row in json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))["cases"]}
    assert len(cases) > 1
    assert all("@r" in case for case in cases)


def test_photographs_give_palette_pngs(tmp_path: Path) -> None:
    run_dir = trained(tmp_path, "images")
    from PIL import Image

    photo = Image.open(tmp_path / "raw/images/case_0.png").convert("RGB")
    (tmp_path / "new").mkdir()
    photo.save(tmp_path / "new/photo.jpg", quality=95)
    (path,) = predicted(tmp_path, "out", images="new")
    assert path.name == "photo.png"
    made = Image.open(path)
    assert (made.mode, made.size) == ("P", photo.size)
    assert set(np.unique(np.asarray(made))) <= {0, 1, 7}
    array = np.moveaxis(np.asarray(Image.open(tmp_path / "new/photo.jpg")), -1, 0)
    again = medseg.load(run_dir / "checkpoints/last.ckpt")(array, formats.open(tmp_path / "new/photo.jpg").grid)
    np.testing.assert_array_equal(again, np.asarray(made))
    with pytest.raises(InputError, match="are for GeoTIFF scenes"):
        predicted(tmp_path, "out2", "polygons=true", images="new")


def image(raw: Path, cells: np.ndarray, grid: Grid | None = None, **more: Any) -> None:
    names = ["B4", "B8"][: len(cells)]
    formats.write_image(
        raw / "images/case_1.tif", cells.astype(np.float32), grid or utm_grid(SHAPE), names=names, **more
    )


def mask(raw: Path, value: int, grid: Grid | None = None) -> None:
    formats.write(raw / "masks/case_1.tif", np.full(SHAPE, value, np.uint8), grid or utm_grid(SHAPE))


SHAPE = (40, 56)
WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a band is missing": (lambda raw: image(raw, np.zeros((1, *SHAPE))), r"case_1: no band B8 in"),
    "unlisted value": (lambda raw: mask(raw, 3), r"label values \{3: 2240\}"),
    "another CRS": (
        lambda raw: mask(raw, 0, utm_grid(SHAPE, epsg=32634)),
        r"its CRS is EPSG:32634, expected EPSG:32633",
    ),
    "all nodata": (lambda raw: image(raw, np.full((2, *SHAPE), -1), nodata=-1), r"no valid cell, all is nodata"),
    "orphan": (lambda raw: (raw / "masks/case_1.tif").unlink(), r"1 file\(s\) of .* same name in .*masks: case_1"),
    "larger cells": (
        lambda raw: image(raw, np.ones((2, *SHAPE)), utm_grid(SHAPE, cell=30.0)),
        r"cells are 10 to 30 in size; set plan\.spacing",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_scenes_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, told = WRONG[name]
    align = "align" if name == "larger cells" else "error"
    own = ["data=rasters", f"data.root={tmp_path}/raw", *OWN["rasters"]]
    write_planar(tmp_path / "raw", compose("train", own), shape=SHAPE)
    change(tmp_path / "raw")
    own += ["split.val_cases=[case_2]", f"data.other_grid={align}"]
    with pytest.raises(InputError, match=told) as error:
        train(compose("train", [*own, *TINY, f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]))
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").rglob(".building*"))


def test_statistics_of_another_length_are_refused(scenes: Path, tmp_path: Path) -> None:
    own = [f"data.root={scenes}/raw", "data=rasters", *OWN["rasters"], "plan.mean=[1,2]", "plan.std=[1,1,1]"]
    with pytest.raises(InputError, match=r"plan\.mean=\[1, 2\]: 2 numbers for 3 channels \['B4', 'B8', 'NDVI'\]"):
        train(compose("train", [*own, *TINY, f"cache_dir={tmp_path}", f"run_dir={tmp_path}/run"]))
