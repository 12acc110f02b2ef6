import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyproj import Geod
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter

from medseg.errors import InputError
from medseg.formats import outlines
from medseg.formats.geotiff import unreferenced_unsaid
from medseg.formats.polygons import PolygonOptions, equal_area, polygons
from medseg.labels import LabelTable

TABLE = LabelTable.declare({"background": 0, "field": 3, "pond": 7})
COVER = LabelTable.declare({"land": 0, "field": 3, "pond": 7}, background=None)
PLACE = Affine(10, 0, 5e5, 0, -10, 4e6)
LABEL = np.array(
    [
        [0, 0, 3, 3, 3, 255],
        [0, 7, 3, 0, 3, 255],
        [7, 0, 3, 3, 3, 3],
    ],
    dtype=np.uint8,
)


def write(path: Path, label: np.ndarray, crs: str | None, transform: Affine = PLACE) -> Path:
    placed = {"crs": crs, "transform": transform} if crs else {}
    height, width = label.shape
    with (
        unreferenced_unsaid(),
        rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=1, dtype=label.dtype, nodata=255, **placed
        ) as scene,
    ):
        scene.write(label[None])
    return path


def read(path: Path) -> tuple[dict, list[tuple[str, int, float]], list[shapely.Polygon]]:
    header, _, geometry, (name, value, area) = pyogrio.raw.read(path)
    return (
        header,
        list(zip(name.tolist(), value.tolist(), area.tolist(), strict=True)),
        list(shapely.from_wkb(geometry)),
    )


def test_areas_of_one_class_become_polygons_with_holes(tmp_path: Path) -> None:
    raster = write(tmp_path / "label.tif", LABEL, "EPSG:32611")
    assert polygons(raster, tmp_path / "label.gpkg", TABLE) == 3
    header, rows, shapes = read(tmp_path / "label.gpkg")
    # the two ponds touch at a corner only
    assert sorted(rows) == [("field", 3, 900.0), ("pond", 7, 100.0), ("pond", 7, 100.0)]
    assert header["crs"] == "EPSG:32611"
    assert header["fields"].tolist() == ["class", "value", "area_m2"]
    assert [len(shape.interiors) for shape, row in zip(shapes, rows, strict=True) if row[1] == 3] == [1]
    drawn = rasterize(
        [(shape, row[1]) for shape, row in zip(shapes, rows, strict=True)],
        out_shape=LABEL.shape,
        transform=PLACE,
    )
    np.testing.assert_array_equal(drawn, np.where(LABEL == 255, 0, LABEL))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["label.gpkg", "label.tif"]


def test_without_a_background_every_class_is_outlined_but_nodata_never(tmp_path: Path) -> None:
    raster = write(tmp_path / "label.tif", LABEL, "EPSG:32611")
    assert polygons(raster, tmp_path / "label.gpkg", COVER) == 6
    _, rows, _ = read(tmp_path / "label.gpkg")
    assert sum(area for _, _, area in rows) == (LABEL != 255).sum() * 100
    assert {name for name, _, _ in rows} == {"land", "field", "pond"}


def test_least_area_and_the_unit_of_the_crs(tmp_path: Path) -> None:
    raster = write(tmp_path / "label.tif", LABEL, "EPSG:2227")  # US survey feet
    square = (10 * 1200 / 3937) ** 2
    assert polygons(raster, tmp_path / "label.gpkg", TABLE, PolygonOptions(min_area_m2=1.01 * square)) == 1
    _, rows, _ = read(tmp_path / "label.gpkg")
    assert rows[0][:2] == ("field", 3)
    assert rows[0][2] == pytest.approx(9 * square)
    assert polygons(raster, tmp_path / "label.gpkg", TABLE, PolygonOptions(min_area_m2=10 * square)) == 0
    header, rows, _ = read(tmp_path / "label.gpkg")
    assert rows == []
    assert header["crs"] == "EPSG:2227"


@pytest.mark.parametrize("latitude", [-61.3, 0.0, 38.9, 80.0])
def test_area_of_degrees_is_that_on_the_ellipsoid(latitude: float, tmp_path: Path) -> None:
    raster = write(tmp_path / "label.tif", LABEL, "EPSG:4326", Affine(1e-3, 0, -121.5, 0, -2e-3, latitude))
    polygons(raster, tmp_path / "label.gpkg", TABLE)
    _, rows, shapes = read(tmp_path / "label.gpkg")
    for (_, _, area), shape in zip(rows, shapes, strict=True):
        along = shapely.segmentize(shapely.orient_polygons(shape), 1e-5)  # geodesics leave the parallels
        expected, _ = Geod(ellps="WGS84").geometry_area_perimeter(along)
        assert area == pytest.approx(abs(expected), rel=1e-8)


def test_the_whole_earth_has_its_area() -> None:
    edge = equal_area(np.array([[-180.0, -90.0], [180.0, 90.0]]))
    assert np.prod(edge[1] - edge[0]) == pytest.approx(510_065_621_724_089, rel=1e-12)  # m2, WGS 84


def test_images_without_a_world(tmp_path: Path) -> None:
    raster = write(tmp_path / "label.tif", LABEL, None)
    assert polygons(raster, tmp_path / "label.gpkg", TABLE) == 3
    header, rows, _ = read(tmp_path / "label.gpkg")
    assert header["crs"] is None
    assert header["fields"].tolist() == ["class", "value", "area"]
    assert sorted(area for _, _, area in rows) == [1, 1, 9]
    with pytest.raises(InputError, match="has no CRS, so no area in m2; drop min_area_m2=5"):
        polygons(raster, tmp_path / "label.gpkg", TABLE, PolygonOptions(min_area_m2=5))


def reference(raster: Path) -> tuple[dict[int, float], list[shapely.Polygon]]:
    """What GDAL outlines of a whole raster, without background and nodata: area by value, and valid polygons."""
    areas: dict[int, float] = {}
    shapes = []
    with rasterio.open(raster) as scene:
        for outline, number in rasterio.features.shapes(scene.read(1), connectivity=4, transform=scene.transform):
            if number not in (0, 255):
                whole = shapely.make_valid(shapely.geometry.shape(outline))
                areas[int(number)] = areas.get(int(number), 0) + whole.area
                shapes.append(shapely.normalize(whole))
    return areas, shapes


def texts(shapes: Any) -> list[str]:
    return sorted(shapely.to_wkt(shapely.normalize(shape)) for shape in shapes)


MAPS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 3, 7, 255])
)


@settings(max_examples=60, deadline=None)
@given(label=MAPS, rows=st.integers(1, 9))
def test_bands_of_any_height_give_the_areas_that_gdal_outlines_at_once(label: np.ndarray, rows: int) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("medseg.formats.polygons._BAND", rows * label.shape[1])
        raster = write(Path(place) / "label.tif", label, "EPSG:32611")
        polygons(raster, Path(place) / "label.gpkg", TABLE)
        _, attributes, shapes = read(Path(place) / "label.gpkg")
        areas, expected = reference(raster)
    assert all(shape.is_valid for shape in shapes)
    assert texts(shapes) == texts(expected)
    found: dict[int, float] = {}
    for _, value, area in attributes:
        found[value] = found.get(value, 0) + area
    assert found == areas
    assert all(row[2] == shape.area for row, shape in zip(attributes, shapes, strict=True))
    pairs = [(shape, row[1]) for shape, row in zip(shapes, attributes, strict=True)]
    drawn = rasterize(pairs, label.shape, transform=PLACE) if pairs else np.zeros_like(label)
    np.testing.assert_array_equal(drawn, np.where(label == 255, 0, label))


@settings(max_examples=30, deadline=None)
@given(label=MAPS, rows=st.integers(1, 9), least=st.integers(0, 6))
def test_small_areas_are_left_out_whatever_the_bands(label: np.ndarray, rows: int, least: int) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("medseg.formats.polygons._BAND", rows * label.shape[1])
        raster = write(Path(place) / "label.tif", label, "EPSG:32611")
        count = polygons(raster, Path(place) / "label.gpkg", TABLE, PolygonOptions(min_cells=least))
        _, attributes, shapes = read(Path(place) / "label.gpkg")
        expected = [shape for shape in reference(raster)[1] if shape.area >= 100 * least]
    assert count == len(shapes)
    assert texts(shapes) == texts(expected)
    assert all(area >= 100 * least for _, _, area in attributes)


def blobs(seed: int, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    """A map of fields of several cells, without background."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(3, *shape)), (0, 3, 3))
    return np.array([0, 3, 7], np.uint8)[noise.argmax(axis=0)]


@pytest.mark.parametrize("rows", [7, 20, 60])
def test_simplified_neighbours_keep_their_common_borders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("medseg.formats.polygons._BAND", rows * 70)
    label = blobs(1)
    raster = write(tmp_path / "label.tif", label, "EPSG:32611")
    polygons(raster, tmp_path / "fine.gpkg", COVER)
    polygons(raster, tmp_path / "label.gpkg", COVER, PolygonOptions(simplify_m=20))
    _, fine, exact = read(tmp_path / "fine.gpkg")
    _, attributes, shapes = read(tmp_path / "label.gpkg")
    assert sorted(attributes) == sorted(fine), "areas are those of the cells"
    assert all(shape.is_valid for shape in shapes)
    assert sum(shape.area for shape in shapes) == pytest.approx(label.size * 100)
    assert shapely.union_all(shapes).area == pytest.approx(label.size * 100), "neither gaps nor overlaps"
    corners = [sum(len(shapely.get_coordinates(shape)) for shape in some) for some in (shapes, exact)]
    assert corners[0] < 0.7 * corners[1]
    pairs = [(shape, row[1]) for shape, row in zip(shapes, attributes, strict=True)]
    drawn = rasterize(pairs, label.shape, transform=PLACE)
    assert (drawn != label).mean() < 0.1


def test_simplifying_leaves_background_and_small_areas_out(tmp_path: Path) -> None:
    label = blobs(2)
    label[20:40, 20:50] = 255
    raster = write(tmp_path / "label.tif", label, "EPSG:32611")
    options = PolygonOptions(simplify_m=15, min_area_m2=2000)
    assert polygons(raster, tmp_path / "label.gpkg", TABLE, options) > 0
    _, attributes, shapes = read(tmp_path / "label.gpkg")
    assert {value for _, value, _ in attributes} == {3, 7}
    assert min(area for _, _, area in attributes) >= 2000
    hole = shapely.box(500_230, 4e6 - 370, 500_470, 4e6 - 230)
    assert not any(shape.intersects(hole) for shape in shapes)


def test_the_mean_probability_is_that_of_the_own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.formats.polygons._BAND", 6)
    raster = write(tmp_path / "label.tif", LABEL, "EPSG:32611")
    bands = np.zeros((3, *LABEL.shape), np.uint8)
    bands[1] = 127
    bands[1, 0] = 254
    bands[2, 1, 1] = 254
    with rasterio.open(raster) as scene:
        profile = scene.profile | {"count": 3}
    with rasterio.open(tmp_path / "prob.tif", "w", **profile) as target:
        target.write(bands)
    polygons(raster, tmp_path / "label.gpkg", TABLE, probabilities=tmp_path / "prob.tif")
    header, _, _, (_, value, _, mean) = pyogrio.raw.read(tmp_path / "label.gpkg")
    assert header["fields"].tolist() == ["class", "value", "area_m2", "mean_probability"]
    by_value = sorted(zip(value.tolist(), mean.tolist(), strict=True))
    assert by_value == [(3, pytest.approx((3 + 6 * 0.5) / 9)), (7, 0.0), (7, 1.0)]


def test_lengths_in_metres_need_a_crs(tmp_path: Path) -> None:
    raster = write(tmp_path / "label.tif", LABEL, None)
    with pytest.raises(InputError, match="has no CRS, so no lengths in m; drop simplify_m=5"):
        polygons(raster, tmp_path / "label.gpkg", TABLE, PolygonOptions(simplify_m=5))
    assert polygons(raster, tmp_path / "label.gpkg", TABLE, PolygonOptions(min_cells=2)) == 1


def test_memory_does_not_grow_with_the_rows_of_a_speckled_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Areas that are open at a time, in cells, as a measure that no other allocation disturbs."""
    monkeypatch.setattr("medseg.formats.polygons._BAND", 10 * 50)
    largest = {}
    add = outlines._Merger.add
    for rows in (100, 300):
        seen: list[int] = []

        def counted(merger: Any, band: Any, seen: list[int] = seen) -> Any:
            yield from add(merger, band)
            seen.append(sum(len(area.pieces) for area in merger._open.values()))

        monkeypatch.setattr(outlines._Merger, "add", counted)
        board = np.random.default_rng(0).choice(np.array([0, 3], np.uint8), (rows, 50))
        polygons(write(tmp_path / "label.tif", board, "EPSG:32611"), tmp_path / "label.gpkg", TABLE)
        largest[rows] = max(seen)
    assert largest[300] <= 1.5 * largest[100]


def test_many_polygons_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.formats.polygons._AT_ONCE", 4)
    board = (np.indices((5, 5)).sum(axis=0) % 2 * 3).astype(np.uint8)
    raster = write(tmp_path / "label.tif", board, "EPSG:32611")
    assert polygons(raster, tmp_path / "label.gpkg", TABLE) == 12
    _, rows, shapes = read(tmp_path / "label.gpkg")
    assert len(rows) == 12
    assert shapely.union_all(shapes).area == 1200


def test_rasters_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds the value 9, the classes are"):
        polygons(write(tmp_path / "a.tif", np.full((4, 4), 9, np.uint8), "EPSG:32611"), tmp_path / "a.gpkg", TABLE)
    with pytest.raises(InputError, match="holds float32, labels were expected in uint8"):
        polygons(write(tmp_path / "b.tif", np.ones((4, 4), np.float32), "EPSG:32611"), tmp_path / "b.gpkg", TABLE)
    (tmp_path / "c.tif").write_bytes(b"no raster")
    with pytest.raises(InputError, match=r"c.tif: cannot be read"):
        polygons(tmp_path / "c.tif", tmp_path / "c.gpkg", TABLE)
    assert not list(tmp_path.glob("*.gpkg"))
    assert not list(tmp_path.glob(".*"))
