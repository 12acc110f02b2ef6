import pickle

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from medseg import formats
from medseg.errors import InputError
from medseg.formats.mosaic import Mosaic
from medseg.geometry.box import Box
from tests.formats.scenes import NORTH_UP, UTM, noise, save


def tile(folder, name, bands, row, col, **options):
    return formats.open(save(folder / name, bands, transform=NORTH_UP @ Affine.translation(col, row), **options))


def four(folder):
    """Four tiles of one scene [2, 30, 40], in disorder, that overlap by 4 cells."""
    scene = noise((2, 30, 40))
    boxes = [Box((13, 18), (30, 40)), Box((0, 0), (17, 22)), Box((0, 18), (17, 40)), Box((13, 0), (30, 22))]
    return scene, [
        tile(folder, f"{i}.tif", scene[(slice(None), *box.slices)], *box.start) for i, box in enumerate(boxes)
    ]


def test_tiles_become_the_scene_they_were_cut_from(tmp_path):
    scene, tiles = four(tmp_path)
    mosaic = Mosaic(tiles)
    cells, valid = mosaic.read_valid()
    np.testing.assert_array_equal(cells, scene)
    assert valid.all()
    assert (mosaic.dtype, mosaic.n_channels, mosaic.path) == (np.uint16, 2, tmp_path)
    np.testing.assert_array_equal(mosaic.grid.affine, tiles[1].grid.affine)
    assert mosaic.grid.frame == UTM.to_wkt()
    for box, channels in [
        (Box((2, 3), (29, 38)), None),
        (Box((14, 19), (16, 21)), [1]),
        (Box((20, 30), (25, 39)), [1, 0]),
    ]:
        np.testing.assert_array_equal(mosaic.read(box, channels), scene[channels or [0, 1]][(slice(None), *box.slices)])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mosaic)).read(), scene)


def test_a_window_opens_only_the_tiles_that_it_touches(tmp_path):
    scene, tiles = four(tmp_path)
    mosaic = Mosaic(tiles)
    for i in (0, 2, 3):
        (tmp_path / f"{i}.tif").write_bytes(b"")
    np.testing.assert_array_equal(mosaic.read(Box((0, 0), (13, 18))), scene[:, :13, :18])
    np.testing.assert_array_equal(mosaic.read(Box((0, 0), (13, 22))), scene[:, :13, :22])  # behind a tile that is valid
    with pytest.raises(InputError, match=r"2\.tif: cannot be read"):
        mosaic.read(Box((0, 0), (13, 23)))


def test_where_tiles_overlap_the_first_valid_cell_counts(tmp_path):
    first = np.array([[[1, 2, 0], [4, 0, 6]]], dtype=np.uint16)
    second = np.array([[[11, 12, 13], [0, 0, 16]]], dtype=np.uint16)
    tiles = [tile(tmp_path, "a.tif", first, 0, 0, nodata=0), tile(tmp_path, "b.tif", second, 0, 1, nodata=0)]
    cells, valid = Mosaic(tiles).read_valid()
    np.testing.assert_array_equal(cells[0], [[1, 2, 12, 13], [4, 0, 6, 16]])
    np.testing.assert_array_equal(valid, [[1, 1, 1, 1], [1, 0, 1, 1]])
    cells, valid = Mosaic(tiles[::-1]).read_valid()
    np.testing.assert_array_equal(cells[0], [[1, 11, 12, 13], [4, 0, 6, 16]])
    np.testing.assert_array_equal(valid, [[1, 1, 1, 1], [1, 0, 1, 1]])


def test_nan_is_not_valid_and_lets_later_tiles_through(tmp_path):
    first, second = noise((2, 3, 3), "float32"), noise((2, 3, 3), "float32", seed=9)
    first[0, 1, 1] = first[1, 2, 2] = second[0, 2, 2] = np.nan
    mosaic = Mosaic([tile(tmp_path, "a.tif", first, 0, 0), tile(tmp_path, "b.tif", second, 0, 0)])
    cells, valid = mosaic.read_valid()
    expected = first.copy()
    expected[:, 1, 1] = second[:, 1, 1]
    np.testing.assert_array_equal(cells, expected)
    np.testing.assert_array_equal(valid, np.arange(9).reshape(3, 3) != 8)
    alone = Mosaic([tile(tmp_path, "a.tif", first, 0, 0)]).read_valid()[1]
    np.testing.assert_array_equal(alone, ~np.isnan(first).any(axis=0))


def test_gaps_are_not_valid(tmp_path):
    tiles = [tile(tmp_path, "a.tif", noise((1, 2, 2)), 0, 0), tile(tmp_path, "b.tif", noise((1, 2, 2)), 3, 5)]
    cells, valid = Mosaic(tiles).read_valid()
    expected = np.zeros((5, 7), dtype=bool)
    expected[:2, :2] = expected[3:, 5:] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(cells[0] > 0, expected)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("uint8", "float32", "float32"),
        ("uint8", "int16", "int16"),
        ("uint16", "int16", "int32"),
        ("uint8", "uint8", "uint8"),
    ],
)
def test_types_are_widened_to_hold_all(tmp_path, one, other, both):
    first, second = noise((1, 2, 3), one), noise((1, 2, 3), other)
    first[0, 1, 1] = second[0, 0, 0] = 0
    mosaic = Mosaic([tile(tmp_path, "a.tif", first, 0, 0, nodata=0), tile(tmp_path, "b.tif", second, 0, 3, nodata=0)])
    cells, valid = mosaic.read_valid()
    assert cells.dtype == both
    np.testing.assert_array_equal(cells, np.concatenate([first, second], axis=2))
    np.testing.assert_array_equal(valid, cells[0] > 0)
    np.testing.assert_array_equal(mosaic.read_valid(Box((0, 0), (2, 3)))[1], first[0] > 0)


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (NORTH_UP @ Affine.translation(3.02, 0), UTM),
        (NORTH_UP @ Affine.scale(1.1), UTM),
        (NORTH_UP, CRS.from_epsg(32634)),
    ],
)
def test_other_cells_are_refused_with_both_names(tmp_path, transform, crs):
    first = tile(tmp_path, "a.tif", noise((1, 5, 5)), 0, 0)
    second = formats.open(save(tmp_path / "b.tif", noise((1, 5, 5)), transform=transform, crs=crs))
    with pytest.raises(
        InputError, match=r"b\.tif: its cells are not those of .*a\.tif \(other CRS, cell size, or shifted"
    ):
        Mosaic([first, second])


def test_other_channels_and_no_tiles_are_refused(tmp_path):
    first = tile(tmp_path, "a.tif", noise((2, 5, 5)), 0, 0, names=("B2", "B3"))
    second = tile(tmp_path, "b.tif", noise((2, 5, 5)), 0, 5, names=("B2", "B4"))
    with pytest.raises(
        InputError, match=r"b\.tif: has 2 channels B2, B4, but .*a\.tif has 2 channels B2, B3; keep tiles"
    ):
        Mosaic([first, second])
    with pytest.raises(InputError, match="mosaic: got no tile"):
        Mosaic([])
