"""A file in any axis order, read in that of another: nibabel is the oracle."""

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import formats
from medseg.formats.reoriented import Reoriented, on_axes_of
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid

SHAPE = (4, 5, 6)
AFFINE = np.array([[1.5, 0.1, 0, -20], [-0.1, 0.8, 0, 7], [0, 0, 3, 40], [0, 0, 0, 1]])
CELLS = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int16)
ORDERS = [
    np.stack([axes, signs], axis=1) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)
]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS, ids=lambda o: "".join(nib.orientations.ornt2axcodes(o)))
def test_every_axis_order_reads_as_the_first(tmp_path: Path, order: np.ndarray) -> None:
    stored = nib.Nifti1Image(CELLS, AFFINE).as_reoriented(order)
    nib.save(stored, tmp_path / "a.nii")
    source, grid = formats.open(tmp_path / "a.nii"), Grid(SHAPE, AFFINE)
    seen = on_axes_of(source, grid)
    assert (seen is source) == (order == ORDERS[0]).all()
    assert seen.grid.offset_from(grid) < 1e-4
    np.testing.assert_array_equal(seen.read()[0], CELLS)
    box = Box((1, 2, 0), (4, 3, 5))
    np.testing.assert_array_equal(seen.read(box)[0], CELLS[box.slices])
    assert seen.read_valid(box)[1].all()
    assert (seen.path, seen.dtype, seen.n_channels) == (source.path, source.dtype, 1)


def test_channels_and_validity_follow(tmp_path: Path) -> None:
    """Of a scene, as volumes have no nodata."""
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    formats.write_image(tmp_path / "a.tif", image, Grid((3, 4), np.eye(3), PIXEL), nodata=5)
    seen = Reoriented(formats.open(tmp_path / "a.tif"), (1, 0), (True, False))
    expected = np.flip(image.transpose(0, 2, 1), 1)
    cells, known = seen.read_valid(Box((0, 0), (3, 2)), [1, 0])
    np.testing.assert_array_equal(cells, expected[[1, 0], :3, :2])
    np.testing.assert_array_equal(known, (expected[:, :3, :2] != 5).all(0))


def test_scenes_keep_their_order(tmp_path: Path) -> None:
    formats.write_image(tmp_path / "a.tif", np.ones((1, 3, 4), np.int16), Grid((3, 4), np.eye(3), PIXEL))
    source = formats.open(tmp_path / "a.tif")
    assert on_axes_of(source, Grid.regular(SHAPE, (1, 1, 1))) is source
