import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from medseg.metrics.boundary import band, boundary_counts, cells_of


@pytest.mark.parametrize("shape", [(17, 23), (9, 8, 10)])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_band_is_what_erosions_by_one_cell_take_away(shape, width):
    # The code of the paper: erode `width` times with a block of three, outside of the image being empty.
    mask = np.random.default_rng(0).random(shape) < 0.97
    block = np.ones((3,) * len(shape))
    eroded = binary_erosion(mask, block, iterations=width, border_value=0)
    np.testing.assert_array_equal(band(mask, width), mask & ~eroded)


def test_counts_worked_by_hand():
    label = np.zeros((9, 9), dtype=bool)
    label[2:7, 2:7] = True
    pred = np.roll(label, 1, axis=1)
    # Two rings of 16 cells around holes of 3 by 3, one a cell to the right: of the right ring, the top
    # and bottom rows share 4 cells each with the left one, the sides none.
    assert boundary_counts(pred, label, 1) == (8, 24)
    assert boundary_counts(pred, label, 9) == (20, 30), "a wide band holds the whole structures: plain IoU"
    assert boundary_counts(label, label, 1) == (16, 16)
    assert boundary_counts(pred & False, label, 1) == (0, 16)
    assert boundary_counts(pred & False, label & False, 1) == (0, 0)


def test_the_edge_of_the_array_is_a_contour():
    full = np.ones((6, 7), dtype=bool)
    assert boundary_counts(full, full, 1) == (2 * 7 + 2 * 4, 2 * 7 + 2 * 4)


def test_what_is_not_counted_is_an_edge():
    whole = np.ones((5, 9), dtype=bool)
    counted = whole.copy()
    counted[:, 6:] = False
    cut = boundary_counts(whole & counted, whole & counted, 1)
    assert cut == boundary_counts(whole[:, :6], whole[:, :6], 1)


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_symmetric_and_moved_along_with_the_structures(seed, width):
    pred, label = np.random.default_rng(seed).random((2, 8, 9)) < 0.6
    counts = boundary_counts(pred, label, width)
    assert counts == boundary_counts(label, pred, width)
    assert counts == boundary_counts(pred.T, label.T, width)
    around = [(width, width)] * 2  # nothing around them: cutting to the box changes no count
    assert counts == boundary_counts(np.pad(pred, around), np.pad(label, around), width)


@pytest.mark.parametrize("width,cells", [(0.02, 10), (0.0001, 1), (0.1, 50), (1, 1), (7.4, 7)])
def test_width_in_cells(width, cells):
    assert cells_of(width, (300, 400)) == cells
