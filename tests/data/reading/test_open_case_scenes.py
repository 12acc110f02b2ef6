"""Scenes and masks as people have them: other grids, other CRSs, missing bands, nodata, vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import formats
from medseg.data.case import Case
from medseg.data.reading.open_case import CaseReader
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import IGNORE, LabelTable
from medseg.sample import Channel, DataSpec, Sample
from tests.tiny import utm_grid

SHAPE = (12, 17)
TABLE = LabelTable.declare({"background": 0, "road": 3, "ignore": 9})
BANDS = ("B4", "B8", "B12")
SCENE = ReadOptions(nonfinite="mask", other_grid="align")
LABEL = np.random.default_rng(0).choice(np.array([0, 3, 9], np.uint8), SHAPE)
INDEX = np.array([0, IGNORE, IGNORE, 1, *[IGNORE] * 6], np.int16)


def spec_of(*channels: str | Channel) -> DataSpec:
    made = tuple(c if isinstance(c, Channel) else Channel(c) for c in channels)
    return DataSpec(made, TABLE, ndim=2)


def image_of(n: int = 3, dtype: Any = np.float32) -> np.ndarray:
    return (np.arange(n * np.prod(SHAPE)).reshape(n, *SHAPE) % 251 + 1).astype(dtype)


def scene(
    folder: Path, image: np.ndarray, grid: Grid | None = None, *, names: Sequence[str] = BANDS, **more: Any
) -> Path:
    path = folder / "scene.tif"
    formats.write_image(path, image, grid or utm_grid(SHAPE), names=names, **more)
    return path


def mask(
    folder: Path, label: np.ndarray = LABEL, grid: Grid | None = None, name: str = "mask.tif", **more: Any
) -> Path:
    formats.write(folder / name, label, grid or utm_grid(label.shape), **more)
    return folder / name


def read(
    image: Path | Sequence[Path],
    label: Path | None = None,
    *channels: str | Channel,
    reading: ReadOptions = SCENE,
    **case: Any,
) -> Sample:
    files = (image,) if isinstance(image, Path) else tuple(image)
    return CaseReader(Case("a", files, label, "g", **case), spec_of(*(channels or BANDS)), reading).read()


def shifted(rows: float, columns: float, shape: Sequence[int] = SHAPE, **more: Any) -> Grid:
    grid = utm_grid(shape, **more)
    affine = grid.affine.copy()
    affine[:2, 2] += affine[:2, :2] @ (rows, columns)
    return Grid(tuple(shape), affine, grid.frame)


def test_bands_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    image = image_of()
    sample = read(scene(tmp_path, image), mask(tmp_path), "B12", "B4")
    np.testing.assert_array_equal(sample.image, image[[2, 0]])
    np.testing.assert_array_equal(sample.label, INDEX[LABEL])
    assert sample.valid.all()


def test_bands_of_several_files_join(tmp_path: Path) -> None:
    image = image_of(4)
    formats.write_image(tmp_path / "s1.tif", image[:1], utm_grid(SHAPE), names=["VV"])
    path = scene(tmp_path, image[1:])
    np.testing.assert_array_equal(read([path, tmp_path / "s1.tif"], None, "VV", "B8").image, image[[0, 2]])
    with pytest.raises(
        InputError, match=r"case a: got band B8 more than once in .*, which have \['B4', 'B8', 'B12', 'B4'"
    ):
        read([path, path], None, "VV", "B8")


def test_a_window_is_the_slice_of_the_whole(tmp_path: Path) -> None:
    case = Case("a", (scene(tmp_path, image_of()),), mask(tmp_path), "g", box=Box((2, 3), (11, 15)))
    opened = CaseReader(case, spec_of(*BANDS), SCENE)
    assert opened.shape == (9, 12)
    part = opened.read(Box((1, 2), (5, 9)))
    np.testing.assert_array_equal(part.image, image_of()[:, 3:7, 5:12])
    np.testing.assert_array_equal(part.label, INDEX[LABEL][3:7, 5:12])
    np.testing.assert_allclose(part.grid.to_world([(0, 0)]), utm_grid(SHAPE).to_world([(3, 5)]))


def test_a_formula_is_a_channel(tmp_path: Path) -> None:
    image = image_of()
    image[:, 0, 0] = 0
    nbr = Channel("NBR", formula="(B8 - B12) / (B8 + B12)")
    found = read(scene(tmp_path, image), None, "B4", nbr).image
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num((image[1] - image[2]) / (image[1] + image[2]))
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)
    np.testing.assert_array_equal(found[0], image[0])


def test_nodata_and_nan_are_not_valid(tmp_path: Path) -> None:
    image = image_of()
    image[1, 3, 4], image[2, 5, 6] = -9999, np.nan
    sample = read(scene(tmp_path, image, nodata=-9999), mask(tmp_path))
    assert {tuple(i) for i in np.argwhere(~sample.valid).tolist()} == {(3, 4), (5, 6)}
    assert (sample.image[:, ~sample.valid] == 0).all()
    only = read(scene(tmp_path, image, nodata=-9999), None, "B4")
    assert only.valid.all(), "bands that nobody asked for do not count"


def test_nan_is_refused_where_asked(tmp_path: Path) -> None:
    image = image_of()
    image[0, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"case a: 1 NaN .*scene\.tif, first in channel 0 at \(2, 3\)"):
        read(scene(tmp_path, image), reading=ReadOptions())


def test_field_of_view_is_validity(tmp_path: Path) -> None:
    inside = np.zeros(SHAPE, np.uint8)
    inside[2:7, 3:9] = 1
    formats.write(tmp_path / "fov.png", inside, Grid(SHAPE, np.eye(3), PIXEL))
    sample = read(scene(tmp_path, image_of()), mask(tmp_path), valid=tmp_path / "fov.png")
    np.testing.assert_array_equal(sample.valid, inside.astype(bool))


def test_mask_whose_nodata_value_is_a_class_keeps_it(tmp_path: Path) -> None:
    sample = read(scene(tmp_path, image_of()), mask(tmp_path, nodata=0))
    np.testing.assert_array_equal(sample.label, INDEX[LABEL])


def test_undeclared_nodata_of_a_mask_is_ignored(tmp_path: Path) -> None:
    label = LABEL.copy()
    label[0] = 255
    found = read(scene(tmp_path, image_of()), mask(tmp_path, label, nodata=255)).label
    assert (found[0] == IGNORE).all()
    with pytest.raises(InputError, match=r"mask\.tif: label values \{255: 17\}"):
        read(scene(tmp_path, image_of()), mask(tmp_path, label))


def test_mask_shifted_by_half_a_cell_is_aligned_and_told(tmp_path: Path) -> None:
    case = Case("a", (scene(tmp_path, image_of()),), mask(tmp_path, grid=shifted(0.4, 0.4)), "g")
    opened = CaseReader(case, spec_of(*BANDS), SCENE)
    np.testing.assert_array_equal(opened.read().label, INDEX[LABEL])
    assert "lies 0.566 cells off; aligned to the nearest cells" in opened.notes[0]
    with pytest.raises(InputError, match=r"mask\.tif does not lie on the grid of .*displaced by up to 0\.566"):
        CaseReader(case, spec_of(*BANDS), ReadOptions(nonfinite="mask"))


def test_mask_of_another_size_is_unknown_where_it_is_not(tmp_path: Path) -> None:
    part = np.full((6, 8), 3, np.uint8)
    sample = read(scene(tmp_path, image_of()), mask(tmp_path, part, shifted(2, 5, (6, 8))))
    expected = np.full(SHAPE, IGNORE)
    expected[2:8, 5:13] = 1
    np.testing.assert_array_equal(sample.label, expected)


def test_another_size_without_georeference_is_refused(tmp_path: Path) -> None:
    label = mask(tmp_path, LABEL[:5], Grid((5, 17), np.eye(3), PIXEL), "mask.png")
    with pytest.raises(InputError, match=r"shape \(5, 17\) in pixel, expected shape \(12, 17\) in EPSG:32633"):
        read(scene(tmp_path, image_of()), label)


def test_mask_without_georeference_lies_on_the_image(tmp_path: Path) -> None:
    label = mask(tmp_path, LABEL, Grid(SHAPE, np.eye(3), PIXEL), "mask.png")
    np.testing.assert_array_equal(read(scene(tmp_path, image_of()), label).label, INDEX[LABEL])


def test_another_crs_is_refused_by_name_or_warped(tmp_path: Path) -> None:
    path = scene(tmp_path, image_of())
    label = mask(tmp_path, np.full((40, 40), 3, np.uint8), utm_grid((40, 40), epsg=32634))
    with pytest.raises(
        InputError, match=r"mask\.tif .*its CRS is EPSG:32634, expected EPSG:32633; data\.other_crs=warp"
    ):
        read(path, label)
    lonlat = utm_grid(SHAPE).to_world([(0, 0), (11, 16)])
    from rasterio.crs import CRS
    from rasterio.warp import transform

    xs, ys = transform(CRS.from_epsg(32633), CRS.from_epsg(4326), *lonlat.T)
    step = 1e-4
    affine = np.array([[0, step, xs[0] - 3 * step], [-step, 0, ys[0] + 3 * step], [0, 0, 1]])
    wide = Grid((20, 30), affine, CRS.from_epsg(4326).to_wkt())
    mask(tmp_path, np.full(wide.shape, 3, np.uint8), wide)
    sample = read(path, label, reading=ReadOptions(nonfinite="mask", other_crs="warp"))
    assert (sample.label == 1).all()


def test_vectors_are_burned_on_the_grid(tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import box

    grid = utm_grid(SHAPE)
    (x0, y0), (x1, y1) = grid.to_world([(2.6, 3.6), (7.4, 9.4)])
    shapes = {"kind": ["road"], "geometry": [box(x0, y1, x1, y0)]}
    geopandas.GeoDataFrame(shapes, crs="EPSG:32633").to_file(tmp_path / "roads.gpkg")
    expected = np.zeros(SHAPE, int)
    expected[3:8, 4:10] = 1
    path = scene(tmp_path, image_of())
    by_name = ReadOptions(nonfinite="mask", attribute="kind")
    np.testing.assert_array_equal(read(path, tmp_path / "roads.gpkg", reading=by_name).label, expected)


@pytest.mark.parametrize(
    ("names", "wanted", "told"),
    [
        (("B4", "B8", "B11"), BANDS, r"case a: no band B12 in .*scene\.tif, which has \['B4', 'B8', 'B11'\]"),
        (
            BANDS,
            ("B4", "B8", "NDVI"),
            r"no band NDVI in .*; the index NDVI follows from data\.sensor, or from a formula",
        ),
        ((), ("B2", "B3", "B4", "B8", "B12"), r"case a: 3 channel\(s\) in .*scene\.tif, expected 5 \['B2', 'B3', 'B4'"),
        (BANDS, ("B2", "B3", "B5", "B8A", "B11"), r"case a: 3 channel\(s\) in .*expected 5"),
    ],
)
def test_missing_bands_are_refused(names: Sequence[str], wanted: Sequence[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        read(scene(tmp_path, image_of(), names=names), None, *wanted)


def test_bands_of_unnamed_files_are_named_by_the_configuration(tmp_path: Path) -> None:
    path, image = scene(tmp_path, image_of(), names=()), image_of()
    named = ReadOptions(nonfinite="mask", bands=("B12", "B8", "B4"))
    np.testing.assert_array_equal(read(path, None, "B4", reading=named).image, image[[2]])
    with pytest.raises(InputError, match=r"3 band\(s\) in .*, expected 2 as data\.bands names"):
        read(path, None, "B4", reading=ReadOptions(bands=("B4", "B8")))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = scene(tmp_path, np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(InputError, match=r"scene\.tif: cannot be read"):
        read(path)


@pytest.mark.parametrize(
    "linear",
    [[[0, 10], [-10, 0]], [[0, 10], [10, 0]], [[-3, 9], [-9, -3]], [[0, 10], [-4, 0]]],
    ids=["north up", "south up", "rotated", "not square"],
)
def test_any_transform_is_read_as_it_is_stored(linear: list[list[float]], tmp_path: Path) -> None:
    frame = utm_grid(SHAPE).frame
    affine = np.block([[np.array(linear, float), np.array([[500000.0], [4200000.0]])], [np.zeros(2), 1]])
    grid = Grid(SHAPE, affine, frame)
    sample = read(scene(tmp_path, image_of(), grid), mask(tmp_path, LABEL, grid))
    np.testing.assert_array_equal(sample.image, image_of())
    np.testing.assert_array_equal(sample.label, INDEX[LABEL])
    assert sample.grid.offset_from(grid) < 1e-6


def test_types_may_differ_from_file_to_file(tmp_path: Path) -> None:
    formats.write_image(tmp_path / "byte.tif", image_of(1, np.uint8), utm_grid(SHAPE), names=["slope"])
    path = scene(tmp_path, image_of() / 7)
    found = read([path, tmp_path / "byte.tif"], None, "slope", "B4").image
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], image_of(1)[0])
    np.testing.assert_array_equal(found[1], (image_of() / 7)[0])


def test_photographs_have_no_world(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    grid = Grid(SHAPE, np.eye(3), PIXEL)
    formats.write_image(tmp_path / "a.png", pixels, grid)
    label = mask(tmp_path, LABEL, grid, "mask.png", labels=TABLE)  # a palette PNG, of indices
    sample = read(tmp_path / "a.png", label, "R", "G", "B")
    np.testing.assert_array_equal(sample.image, pixels)
    np.testing.assert_array_equal(sample.label, INDEX[LABEL])
