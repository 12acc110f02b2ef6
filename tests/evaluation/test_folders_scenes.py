"""medseg-evaluate on GeoTIFF scenes and images."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image
from rasterio.crs import CRS

from medseg import formats
from medseg.errors import InputError
from medseg.evaluation.evaluate import evaluate as command
from medseg.evaluation.folders import evaluate_folders
from medseg.evaluation.options import EvaluationOptions
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.metrics.score import WHOLE_CASE
from tests.formats.test_vector import save_shapes

UTM = CRS.from_epsg(32633).to_wkt()
COVER = LabelTable.declare({"land": 0, "road": 1, "water": 2, "ignore": 255}, background=None)
LABELS = {
    "s1": np.array([[0, 0, 1, 1], [0, 0, 2, 2], [255, 0, 2, 2]], np.uint8),
    "s2": np.array([[2, 2], [2, 2], [1, 1]], np.uint8),
}
PREDS = {
    "s1": np.array([[0, 0, 1, 2], [0, 1, 2, 2], [0, 0, 2, 2]], np.uint8),
    "s2": np.array([[2, 2], [2, 0], [1, 1]], np.uint8),
}


def scene_grid(shape, frame=UTM, x=0.0):
    return Grid(shape, np.array([[0, 10.0, 500_000 + x], [-10.0, 0, 5_000_000], [0, 0, 1]]), frame)


def save(path: Path, cells, *, frame=UTM, x=0.0, nodata=None):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".png":
        formats.write(path, cells, Grid.regular(cells.shape, (1, 1), PIXEL))
    else:
        formats.write(path, cells, scene_grid(cells.shape, frame, x), nodata=nodata)


@pytest.fixture(params=[".tif", ".png"])
def folders(tmp_path, request):
    return both(tmp_path, request.param)


@pytest.fixture
def scenes(tmp_path):
    return both(tmp_path, ".tif")


def both(folder, suffix):
    for part, arrays in (("labels", LABELS), ("predictions", PREDS)):
        for case, cells in arrays.items():
            save(folder / part / f"{case}{suffix}", cells)
    return folder


def evaluate(folders, table=COVER, figures=0, settings=None, **options):
    where = (folders / "predictions", folders / "labels", folders / "out")
    settings = {"resamples": 50} | (settings or {})
    return evaluate_folders(*where, table, EvaluationOptions(figures=figures, settings=settings, **options))


def ious(result):
    return {name: by["iou"]["mean"] for name, by in result["classes"].items()}


def test_two_scenes_worked_by_hand(folders, capsys):
    result = evaluate(folders, figures=2)
    # s1 without its ignored cell: rows label, columns prediction
    assert result["confusion"] == {
        "classes": ["land", "road", "water"],
        "matrix": [[4, 1, 0], [0, 3, 1], [1, 0, 7]],
    }
    expected = {"land": 4 / 6, "road": 3 / 5, "water": 7 / 9}
    assert ious(result) == pytest.approx(expected)
    assert result["summary"]["miou"]["mean"] == pytest.approx(np.mean(list(expected.values())))
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(14 / 17)
    rows = {(row["case"], row["class"]): row for row in result["cases"]}
    assert rows["s2", "water"]["iou"] == 3 / 4
    assert rows["s2", WHOLE_CASE]["accuracy"] == pytest.approx(5 / 6)
    assert result["policy"]["unpredicted"] == "every labelled cell has a prediction"
    assert json.loads((folders / "out" / "metrics.json").read_text(encoding="utf-8")) == result
    page = (folders / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert "Confusion" in page
    printed = capsys.readouterr()
    assert "miou 0.681" in printed.out
    assert printed.err == ""


def test_palette_masks_are_read_as_indices(tmp_path):
    both(tmp_path, ".png")
    for case, cells in LABELS.items():
        coloured = Image.fromarray(cells)
        coloured.putpalette([level for v in range(256) for level in (255 - v, v, 7)])
        assert coloured.mode == "P"
        coloured.save(tmp_path / "labels" / f"{case}.png")
    assert ious(evaluate(tmp_path))["road"] == pytest.approx(3 / 5)


def test_cells_without_prediction_are_left_out_and_told(scenes, capsys):
    lacking = PREDS["s1"].copy()
    lacking[0, 3] = lacking[2, 0] = 99  # the wrong road, and a cell that is ignored anyway
    save(scenes / "predictions" / "s1.tif", lacking, nodata=99)
    result = evaluate(scenes)
    assert ious(result)["road"] == pytest.approx(3 / 4)
    assert ious(result)["water"] == pytest.approx(7 / 8)
    told = "5.9 % of the labelled cells, in 1 of 2 cases, have no prediction and are not counted"
    assert result["policy"]["unpredicted"] == told
    assert f"warning: {told}: s1" in capsys.readouterr().err
    assert told in (scenes / "out" / "report.html").read_text(encoding="utf-8")


def test_nan_in_a_prediction_is_no_prediction(scenes):
    lacking = PREDS["s1"].astype(np.float32)
    lacking[0, 3] = np.nan
    save(scenes / "predictions" / "s1.tif", lacking)
    assert ious(evaluate(scenes))["road"] == pytest.approx(3 / 4)


def test_nodata_of_labels_is_ignored(scenes):
    label = LABELS["s1"].copy()
    label[0, 3], label[2, 0] = 77, 77
    save(scenes / "labels" / "s1.tif", label, nodata=77)
    result = evaluate(scenes, figures=1)
    assert ious(result)["road"] == pytest.approx(3 / 4)
    assert np.sum(result["confusion"]["matrix"]) == 16


def test_declared_value_is_a_class_even_if_it_is_tagged_nodata(scenes):
    for case in LABELS:
        save(scenes / "labels" / f"{case}.tif", LABELS[case], nodata=0)
        save(scenes / "predictions" / f"{case}.tif", PREDS[case], nodata=0)
    assert ious(evaluate(scenes))["land"] == pytest.approx(4 / 6)


def test_field_of_view(folders):
    suffix = next(folders.glob("labels/s1*")).suffix
    for case, cells in LABELS.items():
        view = np.ones(cells.shape, np.uint8) * 255
        view[0] = 0
        save(folders / "fov" / f"{case}{suffix}", view)
    result = evaluate(folders, valid=folders / "fov")
    assert result["confusion"]["matrix"] == [[2, 1, 0], [0, 2, 0], [1, 0, 5]]
    assert "fov" in (folders / "out" / "report.html").read_text(encoding="utf-8")
    (folders / "fov" / f"s2{suffix}").unlink()
    with pytest.raises(InputError, match="no field of view of case s2"):
        evaluate(folders, valid=folders / "fov")
    save(folders / "fov" / f"s2{suffix}", np.ones((3, 3), np.uint8))
    with pytest.raises(InputError, match=r"fov.s2.*has shape \(3, 3\), the label \(3, 2\)"):
        evaluate(folders, valid=folders / "fov")


def test_metric_is_chosen_by_kind_or_by_name(folders):
    suffix = next(folders.glob("labels/s1*")).suffix
    assert "miou" in evaluate(folders)["summary"]
    full = evaluate(folders, scores="full")
    assert f"hd95_{'m' if suffix == '.tif' else 'px'}" in full["summary"]
    assert full["classes"]["road"]["iou"]["mean"] == pytest.approx((1 / 3 + 1) / 2), "mean over cases"
    wide = evaluate(folders, settings={"boundary_width": 9})
    assert wide["classes"]["road"]["boundary_iou"] == wide["classes"]["road"]["iou"]
    assert wide["policy"]["boundary_iou"]["width"] == "9 cells"
    with pytest.raises(InputError, match="got scores=best, expected auto, full or scene"):
        evaluate(folders, scores="best")


def test_prediction_that_lost_its_georeference_is_taken_by_its_shape(scenes):
    (scenes / "predictions" / "s1.tif").unlink()
    save(scenes / "predictions" / "s1.png", PREDS["s1"])
    assert "hd95_m" in evaluate(scenes, scores="full")["summary"]
    (scenes / "labels" / "s2.tif").unlink()
    save(scenes / "labels" / "s2.png", LABELS["s2"])
    assert set(evaluate(scenes, scores="full")["summary"]) & {"hd95_m", "hd95_px"} == {"hd95_m"}


@pytest.mark.parametrize(
    "settings,told",
    [
        ({"frame": CRS.from_epsg(32634).to_wkt()}, "is in the frame .*34N.*, the label in .*33N"),
        ({"x": 5.0}, r"is 0.5 voxels off"),
    ],
)
def test_prediction_elsewhere_is_refused(scenes, settings, told):
    save(scenes / "predictions" / "s1.tif", PREDS["s1"], **settings)
    with pytest.raises(InputError, match=told):
        evaluate(scenes)
    stored = json.loads((scenes / "out/metrics.json").read_text(encoding="utf-8"))
    assert list(stored["failed"]) == ["s1"]


def test_masks_of_colours_are_refused(tmp_path):
    both(tmp_path, ".png")
    Image.fromarray(np.stack([LABELS["s1"]] * 3, axis=-1)).save(tmp_path / "labels" / "s1.png")
    with pytest.raises(InputError, match="holds 3 channels, a label file of one was expected; turn colours"):
        evaluate(tmp_path)


def test_figures_are_drawn_on_composites(scenes, monkeypatch):
    seen, shown = [], []
    monkeypatch.setattr("medseg.evaluation.folders.overlay_figure", lambda *a, **k: seen.append((a, k)))
    monkeypatch.setattr("medseg.evaluation.folders.to_png", lambda figure: b"png")
    monkeypatch.setattr("medseg.evaluation.folders.write_report", lambda *a, **_: shown.append(a[2]))
    for case, cells in LABELS.items():
        image = np.stack([cells, cells + 1, cells + 2, cells + 3]).astype(np.uint16)
        image[0, 0, 0] = 9999
        grid = scene_grid(cells.shape)
        (scenes / "images").mkdir(exist_ok=True)
        formats.write_image(scenes / "images" / f"{case}.tif", image, grid, names=("NIR", "R", "G", "B"), nodata=9999)
    evaluate(scenes, images=scenes / "images", figures=1)
    (((image, label, _, table, _), named),) = seen
    assert image.shape == (4, *label.shape)
    assert [channel.name for channel in named["channels"]] == ["NIR", "R", "G", "B"]
    assert np.argwhere(~named["valid"]).tolist() == [[0, 0]]
    assert table == COVER
    assert shown == [[("s2", b"png")]], "the worst: 0, 1 and 3/4"


@pytest.fixture
def undrawn(monkeypatch):
    """Without figures, which take most of the time."""
    monkeypatch.setattr("medseg.evaluation.folders._draw", lambda *args: b"png")


def run(folders, *overrides):
    where = [f"{part}={folders / part}" for part in ("predictions", "labels")]
    return command(compose("evaluate", [*where, f"output={folders / 'out'}", *overrides]))


NAMES = "names={land: 0, road: 1, water: 2, ignore: 255}"


@pytest.mark.parametrize(
    "overrides,classes",
    [
        ([NAMES], ["land", "road", "water"]),  # no class is named background: all count
        ([NAMES, "background=null"], ["land", "road", "water"]),
        ([NAMES, "background=water"], ["land", "road"]),
        (["names={background: 0, road: 1, water: 2}", "ignore=255"], ["road", "water"]),
        (["ignore=255"], ["class_1", "class_2"]),
        (["ignore=255", "background=null"], ["class_0", "class_1", "class_2"]),
    ],
)
def test_background_of_the_command(scenes, overrides, classes, undrawn):
    result = run(scenes, *overrides)
    assert list(result["classes"]) == classes
    assert result["summary"]["miou"]["classes"] == 3
    assert result["summary"]["accuracy"]["mean"] == pytest.approx(14 / 17)


def test_every_key_of_the_command_arrives(scenes, undrawn):
    result = run(scenes, NAMES, "scores=full", "nsd_tolerance=20")
    assert result["policy"]["nsd"]["tolerance"] == 20
    result = run(scenes, NAMES, "boundary_width=9", f"valid={scenes / 'labels'}")
    assert result["policy"]["boundary_iou"]["width"] == "9 cells"
    assert np.sum(result["confusion"]["matrix"]) == 12, "the first class has the value 0, which is outside"


def test_background_of_a_dataset_json(scenes, undrawn):
    declared = {"channel_names": {"0": "R"}, "labels": {"land": 0, "road": 1, "water": 2}, "file_ending": ".tif"}
    (scenes / "dataset.json").write_text(json.dumps(declared | {"numTraining": 2}))
    assert list(run(scenes, "ignore=255")["classes"]) == ["road", "water"]
    assert list(run(scenes, "ignore=255", "background=null")["classes"]) == ["land", "road", "water"]
    with pytest.raises(InputError, match=r"background=road: in .*dataset.json it is land"):
        run(scenes, "background=road")


def test_background_that_is_no_class(scenes):
    with pytest.raises(InputError, match=r"background=sea is no class, the names are \['land'"):
        run(scenes, NAMES, "background=sea")
    with pytest.raises(InputError, match="background=sea names a class, but there are none"):
        run(scenes, "background=sea")


@pytest.mark.real
def test_vessels_inside_the_field_of_view(real_data, tmp_path):
    root = real_data / "retina_drive"
    options = EvaluationOptions(valid=root / "fov", images=root / "images", figures=1, settings={"resamples": 20})
    result = evaluate_folders(root / "masks", root / "masks", tmp_path, None, options)
    assert result["summary"]["miou"]["mean"] == 1
    assert np.sum(result["confusion"]["matrix"]) == 2_724_019  # cells inside, as the benchmarks count them


def outlined(path: Path, attribute: str | None) -> Path:
    """The cells of s1 that are road or water as two shapes, in degrees."""
    cells = np.argwhere((LABELS["s1"] == 1) | (LABELS["s1"] == 2))
    boxes = [
        shapely.box(500_000 + 10 * j - 5, 5_000_000 - 10 * i - 5, 500_000 + 10 * j + 5, 5_000_000 - 10 * i + 5)
        for i, j in cells
    ]
    kinds = ["road" if LABELS["s1"][i, j] == 1 else "water" for i, j in cells]
    frame = gpd.GeoDataFrame({attribute or "kind": kinds}, geometry=boxes, crs=UTM).to_crs(4326)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_shapes(frame, path)
    return path


@pytest.mark.parametrize("name", ["habitats.gpkg", "labels/s1.gpkg", "labels/s1.fgb", "habitats.parquet"])
def test_shapes_are_labels_on_the_grid_of_the_prediction(name: str, tmp_path: Path) -> None:
    """What no shape covers is 0, here ignored."""
    save(tmp_path / "predictions/s1.tif", np.maximum(PREDS["s1"], 1))  # what is ignored is never predicted
    shapes = outlined(tmp_path / name, "class")
    labels = shapes if name.startswith("habitats") else shapes.parent
    given = [f"predictions={tmp_path}/predictions", f"labels={labels}", f"output={tmp_path}/out", "attribute=class"]
    result = command(compose("evaluate", [*given, "names={ignore: 0, road: 1, water: 2}"]))
    assert result["policy"]["unpredicted"] == "every labelled cell has a prediction"
    assert ious(result) == pytest.approx({"road": 1 / 2, "water": 4 / 5})
    with pytest.raises(InputError, match=r"the labels are shapes, so name their classes: 'names=\{ignore: 0"):
        command(compose("evaluate", given))
