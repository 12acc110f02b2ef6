import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st
from rasterio.crs import CRS

from medseg import formats
from medseg.formats.georeference import grid_of, same_frame, transform_of, whole_cells
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL
from tests.formats.scenes import NORTH_UP, TRANSFORMS, UTM

places = st.floats(-1e7, 1e7, allow_nan=False)
sizes = st.floats(1e-5, 1e4, allow_nan=False)
signs = st.sampled_from((-1, 1))


@st.composite
def transforms(draw):
    """North-up, south-up, mirrored and rotated transforms, of cells that are square or not."""
    corner, size = (draw(places), draw(places)), (draw(sizes), draw(sizes))
    angle = draw(st.sampled_from((0.0, 0.0, 11.0, 90.0, 200.5)))
    turn = Affine.rotation(angle) if angle else Affine.identity()
    return Affine.translation(*corner) @ turn @ Affine.scale(size[0] * draw(signs), size[1] * draw(signs))


@given(transforms())
def test_transform_of_is_the_inverse_of_grid_of(transform):
    grid = grid_of(Path("a.tif"), (40, 50), transform, UTM)
    back = transform_of(grid)
    np.testing.assert_array_equal(grid_of(Path("a.tif"), (40, 50), back, UTM).affine, grid.affine)
    # the corner is lost where it is small beside a cell, as then its last bits do not reach the centre
    step = max(abs(v) for v in (transform.a, transform.b, transform.d, transform.e))
    np.testing.assert_allclose(tuple(back), tuple(transform), rtol=1e-15, atol=4 * math.ulp(step))


@given(transforms(), st.sampled_from((UTM, CRS.from_epsg(4326), None)))
def test_files_keep_the_grid_to_the_last_bit(tmp_path_factory, transform, crs):
    assume(not transform.almost_equals(Affine.identity()))
    path = tmp_path_factory.mktemp("scene") / "a.tif"
    grid = grid_of(path, (3, 2), transform, crs)
    formats.write(path, np.zeros((3, 2), np.uint8), grid)
    source = formats.open(path)
    np.testing.assert_array_equal(source.grid.affine, grid.affine)
    assert source.grid.frame == grid.frame


def test_a_centre_by_hand():
    grid = grid_of(Path("a.tif"), (4, 5), Affine(10, 1, 500, 2, -20, 900), UTM)
    # column 3, row 2: x = 500 + 10 * 3.5 + 1 * 2.5, y = 900 + 2 * 3.5 - 20 * 2.5
    np.testing.assert_allclose(grid.to_world([[2, 3]]), [[537.5, 857.0]])


def test_images_have_no_transform():
    grid = grid_of(Path("a.tif"), (4, 5), Affine.identity(), None)
    assert grid.frame == PIXEL
    assert transform_of(grid) is None
    np.testing.assert_array_equal(grid.to_world([[2, 3]]), [[2, 3]])


def test_frames_are_compared_by_meaning():
    worded = CRS.from_epsg(32633).to_wkt(version="WKT2_2019")
    assert worded != UTM.to_wkt()
    assert same_frame(worded, UTM.to_wkt())
    assert not same_frame(CRS.from_epsg(32634).to_wkt(), UTM.to_wkt())
    assert same_frame(PIXEL, PIXEL)
    assert not same_frame(PIXEL, UTM.to_wkt())


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_whole_cells_finds_windows(transform):
    grid = grid_of(Path("a.tif"), (40, 50), transform, UTM)
    assert whole_cells(grid, grid) == (0, 0)
    assert whole_cells(grid, grid.crop(Box((3, -7), (20, 90)))) == (3, -7)
    half = grid_of(Path("a.tif"), (40, 50), transform @ Affine.translation(0.5, 0), UTM)
    assert whole_cells(grid, half) is None
    almost = grid_of(Path("a.tif"), (40, 50), transform @ Affine.translation(2.009, -1), UTM)
    assert whole_cells(grid, almost) == (-1, 2)
    assert whole_cells(grid, grid_of(Path("a.tif"), (40, 50), transform @ Affine.translation(2.011, 0), UTM)) is None


def test_cells_that_drift_apart_are_not_whole():
    grid = grid_of(Path("a.tif"), (1000, 1000), NORTH_UP, UTM)
    assert whole_cells(grid, grid_of(Path("a.tif"), (1000, 1000), NORTH_UP @ Affine.scale(1.000009), UTM)) == (0, 0)
    assert whole_cells(grid, grid_of(Path("a.tif"), (1000, 1000), NORTH_UP @ Affine.scale(1.00002), UTM)) is None
    assert whole_cells(grid, grid_of(Path("a.tif"), (1000, 1000), NORTH_UP, CRS.from_epsg(32634))) is None


def test_real_scenes_keep_transform_and_crs(real_data, tmp_path):
    paths = sorted(real_data.glob("*/*/*.tif"))[::5]
    assert len(paths) > 8
    for path in paths:
        formats.write(tmp_path / "a.tif", np.zeros(formats.open(path).grid.shape, np.uint8), formats.open(path).grid)
        with rasterio.open(path) as scene, rasterio.open(tmp_path / "a.tif") as written:
            assert written.transform == scene.transform
            assert written.crs == scene.crs
