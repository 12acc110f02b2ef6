import pickle
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio import warp
from rasterio.crs import CRS
from rasterio.enums import Resampling

from medseg import formats
from medseg.errors import InputError
from medseg.formats import aligned as module
from medseg.formats.aligned import aligned
from medseg.formats.georeference import grid_of
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from tests.formats.scenes import NORTH_UP, UTM, noise, save

SHAPE = (48, 61)
TARGETS = {
    "half a cell": (NORTH_UP @ Affine.translation(0.5, 0.5), UTM, SHAPE),
    "part of a cell": (NORTH_UP @ Affine.translation(-0.3, 0.2), UTM, SHAPE),
    "finer": (NORTH_UP @ Affine.scale(0.4, 0.25), UTM, (60, 50)),
    "coarser": (NORTH_UP @ Affine.translation(-9.2, 4.4) @ Affine.scale(2.2, 3.1), UTM, (20, 40)),
    "south-up": (NORTH_UP @ Affine.translation(3, 45.3) @ Affine.scale(0.9, -0.9), UTM, (40, 30)),
    "rotated": (NORTH_UP @ Affine.translation(13, 5.2) @ Affine.rotation(31), UTM, (40, 35)),
    "degrees": (Affine(1.2e-4, 0, 14.5505, 0, -0.8e-4, 45.8757), CRS.from_epsg(4326), (70, 75)),
    "another zone": (Affine(9, 1, -1000, 1, -9, 5101000) @ Affine.translation(87, 40), CRS.from_epsg(32634), (64, 80)),
}


@pytest.fixture(params=TARGETS.values(), ids=TARGETS.keys())
def target(request):
    return request.param


def warped_by_gdal(bands, transform, crs, shape, resampling, nodata):
    pred = np.full((len(bands), *shape), nodata, dtype=bands.dtype)
    warp.reproject(
        bands, pred, src_transform=NORTH_UP, src_crs=UTM, src_nodata=nodata, dst_transform=transform, dst_crs=crs,
        dst_nodata=nodata, resampling=resampling, tolerance=0, XSCALE=1, YSCALE=1,
    )  # fmt: skip
    return pred


def test_nearest_is_that_of_gdal(tmp_path, target):
    transform, crs, shape = target
    bands = noise((2, *SHAPE), "uint8")
    source = formats.open(save(tmp_path / "a.tif", bands))
    view = aligned(source, grid_of(Path("b"), shape, transform, crs), order="nearest")
    expected = warped_by_gdal(bands, transform, crs, shape, Resampling.nearest, 0)
    cells, valid = view.read_valid()
    assert valid.mean() > 0.1
    assert cells.dtype == np.uint8
    # transformers round differently, so that a few points on a border between cells fall on its other side
    assert (valid != (expected > 0).all(axis=0)).mean() < 0.001
    both = valid & (expected > 0).all(axis=0)
    assert (cells != expected)[:, both].mean() < 0.001
    assert (cells[:, ~valid] == 0).all()


def test_linear_is_that_of_gdal_inside(tmp_path, target):
    transform, crs, shape = target
    bands = noise((2, *SHAPE), "float32")
    source = formats.open(save(tmp_path / "a.tif", bands))
    view = aligned(source, grid_of(Path("b"), shape, transform, crs), order="linear")
    expected = warped_by_gdal(bands, transform, crs, shape, Resampling.bilinear, np.nan)
    cells, valid = view.read_valid()
    known = ~np.isnan(expected).any(axis=0)
    assert (valid != known).mean() < 0.001
    # between coordinate systems GDAL interpolates places along a row, to about 0.001 cell
    slack = 1e-4 if crs == UTM else 0.3
    np.testing.assert_allclose(cells[:, valid & known], expected[:, valid & known], atol=slack)


@pytest.mark.parametrize("name", ["degrees", "another zone"])
def test_places_in_another_crs_are_those_of_rasterio(name):
    transform, crs, shape = TARGETS[name]
    box = Box((5, 9), (25, 40))
    index = np.indices(box.shape).reshape(2, -1) + np.array(box.start)[:, None]
    x, y = transform @ (index[1] + 0.5, index[0] + 0.5)
    column, row = ~NORTH_UP @ tuple(map(np.array, warp.transform(crs, UTM, x, y)))
    places = module._places(grid_of(Path("a"), SHAPE, NORTH_UP, UTM), grid_of(Path("b"), shape, transform, crs), box)
    np.testing.assert_allclose(places.reshape(2, -1), [row - 0.5, column - 0.5], rtol=0, atol=1e-8)


@pytest.mark.parametrize("order", ["nearest", "linear"])
def test_a_window_is_a_slice_of_the_whole_in_any_strips(tmp_path, target, order, monkeypatch):
    transform, crs, shape = target
    bands = noise((3, *SHAPE), "float32")
    bands[:, 20:30, 11:40] = -1
    source = formats.open(save(tmp_path / "a.tif", bands, nodata=-1))
    view = aligned(source, grid_of(Path("b"), shape, transform, crs), order=order)
    cells, valid = view.read_valid()
    box = Box((3, 7), (19, 22))
    part, inside = view.read_valid(box, [2, 0])
    np.testing.assert_array_equal(part, cells[[2, 0]][(slice(None), *box.slices)])
    np.testing.assert_array_equal(inside, valid[box.slices])
    monkeypatch.setattr(module, "_AT_ONCE", 300)
    strips = pickle.loads(pickle.dumps(aligned(source, view.grid, order=order)))
    np.testing.assert_array_equal(strips.read(), cells)
    np.testing.assert_array_equal(strips.read_valid()[1], valid)


def test_half_a_cell_by_hand(tmp_path):
    bands = np.array([[[1, 2], [3, 4]]], dtype=np.uint8)
    source = formats.open(save(tmp_path / "a.tif", bands))
    for shift, expected, inside in [
        (0.5, [[4, 0], [0, 0]], [[True, False], [False, False]]),  # a tie takes the higher index
        (-0.5, [[1, 2], [3, 4]], np.ones((2, 2))),
        (-0.6, [[0, 0], [0, 1]], [[False, False], [False, True]]),
    ]:
        view = aligned(
            source, grid_of(Path("b"), (2, 2), NORTH_UP @ Affine.translation(shift, shift), UTM), order="nearest"
        )
        cells, valid = view.read_valid()
        np.testing.assert_array_equal(cells[0], expected)
        np.testing.assert_array_equal(valid, inside)
    view = aligned(source, grid_of(Path("b"), (2, 2), NORTH_UP @ Affine.translation(0.25, 0.25), UTM), order="linear")
    cells, valid = view.read_valid()
    # 1 + 0.25 + 0.5 between all four; beyond the last centres, the border's value
    np.testing.assert_allclose(cells[0], [[1.75, 2.5], [3.25, 4]])
    assert valid.all()


def test_linear_takes_no_part_of_what_is_not_valid(tmp_path):
    bands = np.array([[[10, -1], [30, 50]], [[np.nan, 2], [2, 2]]], dtype=np.float32)
    source = formats.open(save(tmp_path / "a.tif", bands, nodata=-1))
    view = aligned(source, grid_of(Path("b"), (1, 1), NORTH_UP @ Affine.translation(0.4, 0.5), UTM), order="linear")
    cells, valid = view.read_valid(channels=[0])
    # at row 0.5, column 0.4: weights 0.3 of 10, 0.3 of 30, 0.2 of 50
    np.testing.assert_allclose(cells, [[[(0.3 * 10 + 0.3 * 30 + 0.2 * 50) / 0.8]]], rtol=1e-6)
    assert valid.all()
    np.testing.assert_allclose(view.read()[1], [[2.0]])


@pytest.mark.parametrize("order", ["nearest", "linear"])
def test_grids_of_the_same_cells_are_copied(tmp_path, order):
    bands = noise((2, 9, 8), "uint16")
    bands[1, 4, 4] = 0
    source = formats.open(save(tmp_path / "a.tif", bands, nodata=0))
    crooked = grid_of(Path("b"), (9, 8), NORTH_UP @ Affine.translation(0.004, -0.004), UTM)
    for grid in (source.grid, crooked):
        view = aligned(source, grid, order=order)
        np.testing.assert_array_equal(view.read(), bands)
        np.testing.assert_array_equal(view.read_valid()[1], bands[1] > 0)
        assert view.grid is grid
    view = aligned(source, source.grid.crop(Box((2, -3), (11, 5))), order=order)
    cells, valid = view.read_valid()
    np.testing.assert_array_equal(cells[:, :7, 3:], bands[:, 2:, :5])
    expected = np.zeros((9, 8), dtype=bool)
    expected[:7, 3:] = bands[1, 2:, :5] > 0
    np.testing.assert_array_equal(valid, expected)


def test_far_away_nothing_is_valid(tmp_path):
    source = formats.open(save(tmp_path / "a.tif", noise((1, 9, 8), "uint8")))
    for transform, crs in [(NORTH_UP @ Affine.translation(1000.5, 0), UTM), (NORTH_UP, CRS.from_epsg(32601))]:
        cells, valid = aligned(source, grid_of(Path("b"), (5, 5), transform, crs), order="nearest").read_valid()
        assert not cells.any()
        assert not valid.any()


def test_frames_that_do_not_meet_are_refused(tmp_path):
    source = formats.open(save(tmp_path / "a.tif", noise((1, 9, 8), "uint8")))
    with pytest.raises(InputError, match=r"a\.tif: lies in 'PROJCS.*' and cannot be brought to 'pixel'; give both"):
        aligned(source, Grid((9, 8), np.eye(3), PIXEL), order="nearest")
