import numpy as np
import pytest

from medseg.geometry.grid import PIXEL, Grid, reorient
from medseg.viz.planes import fullest, planes_of

RAS = np.diag([1.0, 2.0, 3.0, 1.0])
LPI = np.diag([-1.0, -2.0, -3.0, 1.0])


def along(grid, direction):
    """World coordinate towards ``direction`` (index of R, A, S) of every cell."""
    cells = np.indices(grid.shape).reshape(grid.ndim, -1).T
    return grid.to_world(cells)[:, direction].reshape(grid.shape)


@pytest.mark.parametrize("affine", [RAS, LPI, RAS[:, [2, 0, 1, 3]], LPI[:, [1, 2, 0, 3]]])
@pytest.mark.parametrize(
    "name,down,across",
    [("axial", (1, -1), (0, -1)), ("coronal", (2, -1), (0, -1)), ("sagittal", (2, -1), (1, -1))],
)
def test_patients_are_seen_in_radiological_convention(affine, name, down, across):
    # Going down the screen of an axial view, the world coordinate towards A falls; going right, the one towards R.
    grid = Grid((4, 5, 6), affine)
    plane = next(p for p in planes_of(grid) if p.name == name)
    for direction, sign, axis in ((*down, 0), (*across, 1)):
        world = reorient(along(grid, direction), *grid.canonical())
        steps = np.diff(plane.cut(world, 1), axis=axis)
        assert (np.sign(steps) == sign).all()


def test_letters_agree_with_the_convention():
    edges = {p.name: p.edges for p in planes_of(Grid((4, 5, 6), RAS))}
    assert edges == {
        "axial": ("R", "L", "A", "P"),
        "coronal": ("R", "L", "S", "I"),
        "sagittal": ("A", "P", "S", "I"),
    }


def test_images_are_seen_as_stored():
    array = np.arange(12).reshape(3, 4)
    (plane,) = planes_of(Grid.regular((3, 4), (1, 1), PIXEL))
    assert (plane.cut(array, 0) == array).all()
    assert plane.edges == ("", "", "", "")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_of_pixels_are_seen_as_stored(axis):
    array = np.arange(60).reshape(3, 4, 5)
    plane = planes_of(Grid.regular((3, 4, 5), (1, 1, 1), PIXEL))[axis]
    assert (plane.cut(array, 2) == array.take(2, axis=axis)).all()


def test_fullest_cut():
    axial, coronal, sagittal = planes_of(Grid((4, 6, 8), RAS))
    mask = np.zeros((4, 6, 8), dtype=bool)
    assert [fullest(mask, p) for p in (axial, coronal, sagittal)] == [4, 3, 2]
    mask[1:3, 2, 5:8] = True
    mask[1, 2, 6] = False
    assert [fullest(mask, p) for p in (axial, coronal, sagittal)] == [5, 2, 2]
    assert fullest(np.ones((3, 3), dtype=bool), planes_of(Grid.regular((3, 3), (1, 1), PIXEL))[0]) == 0
