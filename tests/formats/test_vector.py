import pickle
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from medseg import formats
from medseg.errors import InputError
from medseg.formats.georeference import grid_of
from medseg.formats.vector import rasterised
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from tests.formats.scenes import NORTH_UP, TRANSFORMS, UTM

GRID = grid_of(Path("a.tif"), (30, 40), NORTH_UP, UTM)
SQUARE, RING, FAR, LATER = range(4)


def cells_to_map(shape, transform=NORTH_UP):
    """A shape in (column, row) from the outer corner, brought to the map."""
    a, b, c, d, e, f = transform[:6]
    return shapely.transform(
        shape, lambda p: np.stack([a * p[:, 0] + b * p[:, 1] + c, d * p[:, 0] + e * p[:, 1] + f], 1)
    )


def shapes(transform=NORTH_UP):
    drawn = [
        shapely.box(2, 3, 10, 7.4),
        shapely.box(15, 5, 25, 20).difference(shapely.box(18, 9, 21, 12)),
        shapely.box(900, 900, 910, 910),
        shapely.box(8, 5, 17, 9),
    ]
    return gpd.GeoDataFrame(
        {"kind": ["field", "lake", "road", "lake"], "code": [1, 2, 3, 2], "holed": [1, None, 3, 2]},
        geometry=[cells_to_map(shape, transform) for shape in drawn],
        crs=UTM.to_wkt(),
    )


def save_shapes(frame, path):
    """In the order of the frame, which an index of FlatGeobuf changes."""
    if path.suffix in (".parquet", ".geoparquet"):
        frame.to_parquet(path)
    elif path.suffix == ".fgb":
        frame.to_file(path, SPATIAL_INDEX="NO")
    else:
        frame.to_file(path)


def expected(codes):
    mask = np.zeros((30, 40), dtype=int)
    mask[3:7, 2:10] = codes[SQUARE]  # row 7 is covered to 0.4, less than its centre
    ring = np.zeros_like(mask, dtype=bool)
    ring[5:20, 15:25] = True
    ring[9:12, 18:21] = False
    mask[ring] = codes[RING]
    mask[5:9, 8:17] = codes[LATER]
    return mask


@pytest.mark.parametrize("ending", formats.VECTORS)
def test_shapes_by_hand(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    frame = shapes()
    save_shapes(frame.to_crs(4326) if ending == ".geojson" else frame, path)
    source = rasterised(path, GRID)
    assert (source.n_channels, source.dtype, source.grid, source.path) == (1, np.uint8, GRID, path)
    np.testing.assert_array_equal(source.read()[0], expected((1, 1, 1, 1)))
    assert source.read_valid()[1].all()
    np.testing.assert_array_equal(rasterised(path, GRID, burn=300).read()[0], expected((300,) * 4))
    np.testing.assert_array_equal(rasterised(path, GRID, attribute="code").read()[0], expected((1, 2, 3, 2)))
    values = {"field": -4, "lake": 70000, "road": 9, "sea": 1}
    source = rasterised(path, GRID, attribute="kind", values=values)
    assert source.dtype == np.int32
    np.testing.assert_array_equal(source.read()[0], expected((-4, 70000, 9, 70000)))


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_windows_are_slices_on_any_grid(tmp_path, transform):
    shapes(transform).to_file(tmp_path / "a.gpkg")
    source = rasterised(tmp_path / "a.gpkg", grid_of(Path("a"), (30, 40), transform, UTM), attribute="code")
    whole = source.read()
    np.testing.assert_array_equal(whole[0], expected((1, 2, 3, 2)))
    again = pickle.loads(pickle.dumps(source))
    for box in (Box((0, 0), (3, 40)), Box((4, 9), (19, 20)), Box((10, 19), (11, 20)), Box((25, 30), (30, 40))):
        np.testing.assert_array_equal(again.read(box), whole[(slice(None), *box.slices)])


@pytest.mark.parametrize("all_touched", [False, True])
def test_another_crs_equals_geopandas_and_rasterio(tmp_path, all_touched):
    rng = np.random.default_rng(2)
    drawn = [
        shapely.Point(rng.uniform(0, 40), rng.uniform(0, 30)).buffer(rng.uniform(1, 6), quad_segs=3) for _ in range(25)
    ]
    frame = gpd.GeoDataFrame({"code": range(1, 26)}, geometry=[cells_to_map(s) for s in drawn], crs=UTM.to_wkt())
    frame.to_crs(3035).to_file(tmp_path / "a.gpkg")
    source = rasterised(tmp_path / "a.gpkg", GRID, attribute="code", all_touched=all_touched)
    back = gpd.read_file(tmp_path / "a.gpkg").to_crs(UTM.to_wkt())
    oracle = rasterize(
        list(zip(back.geometry, back["code"])), out_shape=(30, 40), transform=NORTH_UP, all_touched=all_touched
    )
    np.testing.assert_array_equal(source.read()[0], oracle)
    assert len(np.unique(oracle)) > 15


def test_only_shapes_near_the_grid_are_kept(tmp_path):
    shapes().to_file(tmp_path / "a.gpkg")
    assert len(rasterised(tmp_path / "a.gpkg", GRID)._shapes) == 3
    away = grid_of(Path("b"), (30, 40), NORTH_UP @ Affine.translation(400, 400), UTM)
    assert not rasterised(tmp_path / "a.gpkg", away).read().any()


def test_lines_points_and_several_parts(tmp_path):
    drawn = [shapely.LineString([(1.5, 1.5), (1.5, 4.5)]), shapely.Point(7.2, 9.9),
             shapely.MultiPolygon([shapely.box(20, 20, 22, 21), shapely.box(30, 20, 31, 22)])]  # fmt: skip
    for i, shape in enumerate([*drawn, shapely.GeometryCollection(drawn)]):
        path = tmp_path / f"{i}.gpkg"
        gpd.GeoDataFrame(geometry=[cells_to_map(shape), None, shapely.Polygon()], crs=UTM.to_wkt()).to_file(path)
        mask = np.zeros((30, 40), dtype=bool)
        if i in (0, 3):
            mask[1:5, 1] = True
        if i in (1, 3):
            mask[9, 7] = True
        if i in (2, 3):
            mask[20, 20:22] = mask[20:22, 30] = True
        np.testing.assert_array_equal(rasterised(path, GRID).read()[0] > 0, mask)


def test_layers(tmp_path):
    path = tmp_path / "a.gpkg"
    shapes().to_file(path, layer="lakes")
    np.testing.assert_array_equal(rasterised(path, GRID, layer="lakes").read()[0], expected((1,) * 4))
    shapes()[:1].to_file(path, layer="fields")
    with pytest.raises(
        InputError, match=r"a\.gpkg: holds 2 layers of shapes \['lakes', 'fields'\], one was expected; .*layer="
    ):
        rasterised(path, GRID)
    assert rasterised(path, GRID, layer="fields").read().sum() == 32
    with pytest.raises(InputError, match=r"a\.gpkg: no layer 'roads'; its layers of shapes are \['lakes', 'fields'\]"):
        rasterised(path, GRID, layer="roads")
    shapes()[:0].to_file(path, layer="fields")
    with pytest.raises(InputError, match=r"a\.gpkg: layer 'fields' holds no shapes, at least one"):
        rasterised(path, GRID, layer="fields")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attribute": "size"}, r"no attribute 'size'; shapes have \['kind', 'code', 'holed'\]"),
        (
            {"attribute": "kind"},
            r"attribute 'kind' holds \{'field': 1, 'lake': 2, 'road': 1\} \(text: shapes\), expected int",
        ),
        ({"attribute": "holed"}, r"attribute 'holed' holds \{'nan': 1\} \(text: shapes\), expected integers"),
        (
            {"attribute": "kind", "values": {"lake": 1, "field": 2}},
            r"attribute 'kind' holds \{'road': 1\} \(text: shapes\), expected integers or one of \['field',",
        ),
        ({"burn": 2**40}, r"got values from 0 to 1099511627776, masks hold 32 bits"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, words):
    shapes().to_file(tmp_path / "a.gpkg")
    with pytest.raises(InputError, match=rf"a\.gpkg: {words}"):
        rasterised(tmp_path / "a.gpkg", GRID, **settings)


def test_integers_with_gaps_may_be_named(tmp_path):
    shapes().to_file(tmp_path / "a.gpkg")
    source = rasterised(tmp_path / "a.gpkg", GRID, attribute="holed", values={"3": 7, "nan": 8, "lake": 9})
    np.testing.assert_array_equal(source.read()[0], expected((1, 8, 7, 2)))


def test_places_that_do_not_meet_are_refused(tmp_path):
    shapes().to_file(tmp_path / "a.shp")
    with pytest.raises(
        InputError, match=r"a\.shp: got shapes of a map for an image in frame 'pixel', which has no CRS"
    ):
        rasterised(tmp_path / "a.shp", Grid((4, 4), np.eye(3), PIXEL))
    (tmp_path / "a.prj").unlink()
    with pytest.raises(InputError, match=r"a\.shp: has no CRS, so its shapes lie nowhere; add one"):
        rasterised(tmp_path / "a.shp", GRID)
    pole = gpd.GeoDataFrame(geometry=[shapely.box(-179, -95, 179, -89)], crs=4326)
    pole.to_file(tmp_path / "b.gpkg")
    mercator = grid_of(Path("c"), (9, 9), Affine(1000, 0, 0, 0, -1000, 0), CRS.from_epsg(3857))
    with pytest.raises(InputError, match=r"b\.gpkg: 3 points of its shapes do not exist in the CRS of the image; cut"):
        rasterised(tmp_path / "b.gpkg", mercator)


@pytest.mark.parametrize("ending", formats.VECTORS)
def test_damaged_files_are_told_in_one_line(tmp_path, ending, capfd):
    path = tmp_path / f"a{ending}"
    with pytest.raises(InputError, match=r"a\.\w+: no such file"):
        rasterised(path, GRID)
    path.write_bytes(b"nothing of this kind")
    with pytest.raises(InputError, match=r"a\.\w+: does not start (as a|with a JSON)") as told:
        rasterised(path, GRID)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


def test_numbers_beyond_64_bits_are_named(tmp_path):
    frame = shapes()
    frame["code"] = [float(1 << 70)] * len(frame)
    frame.to_file(tmp_path / "a.geojson")
    with pytest.raises(InputError, match=r"attribute 'code' holds \{'1180591620717411303424': 4\}.*expected integers"):
        rasterised(tmp_path / "a.geojson", GRID, attribute="code")


def test_a_changed_file_is_read_again(tmp_path):
    shapes().to_file(tmp_path / "a.geojson")
    assert rasterised(tmp_path / "a.geojson", GRID).read().any()
    shapes()[2:3].to_file(tmp_path / "a.geojson")
    assert not rasterised(tmp_path / "a.geojson", GRID).read().any()
