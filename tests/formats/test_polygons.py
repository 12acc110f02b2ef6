from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Geod
from rasterio.features import rasterize

from medseg.errors import InputError
from medseg.formats.geotiff import unreferenced_unsaid
from medseg.formats.polygons import equal_area, polygons
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
    assert polygons(raster, tmp_path / "label.gpkg", TABLE, min_area_m2=1.01 * square) == 1
    _, rows, _ = read(tmp_path / "label.gpkg")
    assert rows[0][:2] == ("field", 3)
    assert rows[0][2] == pytest.approx(9 * square)
    assert polygons(raster, tmp_path / "label.gpkg", TABLE, min_area_m2=10 * square) == 0
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
        polygons(raster, tmp_path / "label.gpkg", TABLE, min_area_m2=5)


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
