"""The signed permutation between two grids, for all 48 of three axes."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medseg.geometry.grid import PIXEL, Grid, reorient
from medseg.geometry.permuted import Turn, turn_onto, unmoved

TURNS: list[Turn] = [
    (axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)
]  # fmt: skip


def tilted(degrees: float = 20.0) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("zyx", [degrees, -0.7 * degrees, 9], degrees=True).as_matrix() * (0.7, 1.5, 4)
    affine[:3, 3] = -17.3, 45.9, 1203.4
    return Grid((4, 5, 6), affine)


@pytest.mark.parametrize("turn", TURNS)
def test_every_order_of_axes_is_found(turn: Turn) -> None:
    grid, cells = tilted(), np.arange(120).reshape(4, 5, 6)
    stored, array = grid.reorient(*turn), reorient(cells, *turn)
    back = turn_onto(stored, grid)
    assert back is not None
    assert unmoved(back) == unmoved(turn)
    assert stored.reorient(*back).offset_from(grid) < 1e-9
    np.testing.assert_array_equal(reorient(array, *back), cells)


def test_there_are_48_orders_of_three_axes() -> None:
    assert len({(axes, flips) for axes, flips in TURNS}) == 48


def test_nothing_leads_between_frames_axes_or_half_turned_grids() -> None:
    grid = tilted()
    assert turn_onto(Grid((4, 5), np.eye(3), PIXEL), grid) is None
    assert turn_onto(Grid((4, 5, 6), grid.affine, PIXEL), grid) is None
    half = np.eye(4)
    half[:3, :3] = [[1, 1, 0], [1.001, 1.002, 0], [0, 0, 1]]
    assert turn_onto(Grid.regular((4, 5, 6), (1, 1, 1)), Grid((4, 5, 6), half)) is None
