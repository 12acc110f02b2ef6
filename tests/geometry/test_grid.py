import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid, reorient, reorient_back


@st.composite
def lattices(draw, ndim=None):
    """Shape and affine of rotated, mirrored, anisotropic grids of two or three axes.

    The test builds the ``Grid``: its run-time type check draws random numbers, which strategies must not.
    """
    d = ndim or draw(st.sampled_from([2, 3]))
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    turned = Rotation.from_euler("zyx", angles if d == 3 else [angles[0], 0, 0], degrees=True).as_matrix()[:d, :d]
    spacing = [draw(st.floats(0.2, 6)) * draw(st.sampled_from([-1, 1])) for _ in range(d)]
    affine = np.eye(d + 1)
    affine[:d, :d] = turned * spacing
    affine[:d, d] = [draw(st.floats(-300, 300)) for _ in range(d)]
    return tuple(draw(st.integers(1, 8)) for _ in range(d)), affine


@st.composite
def turns(draw, d=3):
    return tuple(draw(st.permutations(range(d)))), tuple(draw(st.lists(st.booleans(), min_size=d, max_size=d)))


def cells(grid):
    return np.indices(grid.shape).reshape(grid.ndim, -1).T


@given(lattice=lattices(), seed=st.integers(0, 99))
def test_to_index_is_the_inverse_of_to_world(lattice, seed):
    grid = Grid(*lattice)
    index = np.random.default_rng(seed).uniform(-50, 50, size=(7, grid.ndim))
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-8)


def test_to_world_literals():
    grid = Grid((4, 5), np.array([[0, -2, 10], [3, 0, 20], [0, 0, 1.0]]))
    np.testing.assert_array_equal(
        grid.to_world([(0, 0), (1, 0), (0, 1), (0.5, 2)]), [[10, 20], [10, 23], [8, 20], [6, 21.5]]
    )
    assert grid.spacing == (3.0, 2.0)
    assert grid.unit == "mm"
    assert Grid.regular((4, 5), (1, 1), PIXEL).unit == "px"
    assert Grid.regular((4, 5), (1, 1), 'PROJCS["WGS 84 / UTM zone 33N"]').unit == "m"


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((3, 3), np.eye(4), r"affine of shape \(4, 4\) for 2 axes, expected \(3, 3\)"),
        ((3, 3), np.diag([1, 0, 1.0]), "singular or not finite"),
        ((3, 3), np.diag([1, np.nan, 1.0]), "singular or not finite"),
        ((3, 3), np.array([[-8e246, 3e-322, 0], [0, 2e-289, 0], [0, 0, 1.0]]), "singular or not finite"),
    ],
)
def test_grid_refuses_affines_that_are_none(shape, affine, words):
    with pytest.raises(InputError, match=words):
        Grid(shape, affine)


def test_grid_cannot_be_changed_through_its_affine():
    affine = np.eye(3)
    grid = Grid((2, 2), affine)
    affine[0, 0] = 9
    assert grid.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 9


@given(lattice=lattices(ndim=3), turn=turns())
def test_reorient_keeps_the_world_position_of_every_cell(lattice, turn):
    grid = Grid(*lattice)
    axes, flips = turn
    numbers = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    turned, new = reorient(numbers, axes, flips), grid.reorient(axes, flips)
    assert turned.shape == new.shape
    before = dict(zip(numbers.ravel().tolist(), grid.to_world(cells(grid))))
    for number, place in zip(turned.ravel().tolist(), new.to_world(cells(new))):
        np.testing.assert_allclose(place, before[number], atol=1e-8)


@given(turn=turns(), lead=st.integers(0, 2))
def test_reorient_back_undoes_reorient(turn, lead):
    array = np.arange(2**lead * 24).reshape((2,) * lead + (2, 3, 4))
    turned = reorient(array, *turn)
    assert turned.shape == (2,) * lead + tuple((2, 3, 4)[a] for a in turn[0])
    np.testing.assert_array_equal(reorient_back(turned, *turn), array)


@given(spacing=st.lists(st.floats(0.3, 5), min_size=3, max_size=3), turn=turns(), angle=st.floats(-30, 30))
def test_canonical_finds_back_how_a_canonical_grid_was_turned(spacing, turn, angle):
    """Also when it is tilted, as long as each axis stays closest to its own world axis."""
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("xz", [angle, angle / 3], degrees=True).as_matrix()
    straight = Grid((3, 4, 5), tilt @ np.diag([*spacing, 1.0]))
    assert straight.canonical() == ((0, 1, 2), (False, False, False))
    turned = straight.reorient(*turn)
    back = turned.reorient(*turned.canonical())
    assert back.shape == straight.shape
    np.testing.assert_allclose(back.affine, straight.affine, atol=1e-8)


@given(lattice=lattices(ndim=3))
def test_canonical_is_a_permutation_and_stable(lattice):
    grid = Grid(*lattice)
    axes, _ = grid.canonical()
    assert sorted(axes) == [0, 1, 2]
    again = grid.reorient(*grid.canonical())
    assert again.canonical() == ((0, 1, 2), (False, False, False))


@given(lattice=lattices(ndim=3))
def test_orientation_is_what_nibabel_calls_it(lattice):
    grid = Grid(*lattice)
    assert grid.orientation == "".join(nib.aff2axcodes(grid.affine))


def test_only_volumes_have_an_orientation():
    assert Grid.regular((4, 5), (1, 1), PIXEL).orientation == ""


def test_canonical_literals():
    lps = Grid((2, 3, 4), np.diag([-1.0, -1, 1, 1]))
    assert lps.canonical() == ((0, 1, 2), (True, True, False))
    np.testing.assert_array_equal(lps.reorient(*lps.canonical()).affine[:3, 3], [-1, -2, 0])
    psr = Grid((2, 3, 4), np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]))
    assert psr.canonical() == ((2, 0, 1), (False, True, False))
    assert psr.reorient(*psr.canonical()).shape == (4, 2, 3)
    photo = Grid((2, 3), np.array([[0, -1, 0], [-1, 0, 0], [0, 0, 1.0]]), PIXEL)
    assert photo.canonical() == ((0, 1), (False, False))


@given(lattice=lattices(), factors=st.lists(st.floats(0.2, 4), min_size=3, max_size=3))
def test_resampled_keeps_the_outer_corners(lattice, factors):
    grid = Grid(*lattice)
    spacing = [s * f for s, f in zip(grid.spacing, factors)]
    new = grid.resampled(spacing)
    assert new.shape == tuple(max(1, int(np.round(n / f))) for n, f in zip(grid.shape, factors))
    for side in (0, 1):
        old_corner = grid.to_world([[side * n - 0.5 for n in grid.shape]])
        np.testing.assert_allclose(new.to_world([[side * n - 0.5 for n in new.shape]]), old_corner, atol=1e-8)
    np.testing.assert_allclose(np.multiply(new.shape, new.spacing), np.multiply(grid.shape, grid.spacing))


def test_resized_literals():
    finer = Grid.regular((4, 6), (2.0, 1.0)).resized((8, 3))
    np.testing.assert_allclose(finer.affine, [[1, 0, -0.5], [0, 2, 0.5], [0, 0, 1]])


@given(lattice=lattices(), start=st.lists(st.integers(-4, 4), min_size=3, max_size=3))
def test_crop_keeps_world_positions_also_outside(lattice, start):
    grid = Grid(*lattice)
    box = Box.at(start[: grid.ndim], (2,) * grid.ndim)
    part = grid.crop(box)
    assert part.shape == (2,) * grid.ndim
    assert part.to_dict() == Grid(part.shape, part.affine, grid.frame).to_dict()
    assert not part.affine.flags.writeable
    np.testing.assert_allclose(part.to_world(cells(part)), grid.to_world(cells(part) + box.start), atol=1e-8)


def test_offset_from_literals():
    grid = Grid.regular((5, 5, 5), (2.0, 2.0, 2.0))
    assert grid.offset_from(grid) == 0
    moved = grid.affine.copy()
    moved[:3, 3] = (0.6, 0, 0.8)
    assert grid.offset_from(Grid(grid.shape, moved)) == pytest.approx(0.5)  # one millimetre of two
    wider = Grid.regular((5, 5, 5), (2.0, 2.0, 2.5))
    assert grid.offset_from(wider) == pytest.approx(1)  # 4 steps of half a millimetre at the far corner
    assert grid.offset_from(Grid.regular((5, 5, 4), (2, 2, 2))) == float("inf")
    assert grid.offset_from(Grid(grid.shape, grid.affine, PIXEL)) == float("inf")


def test_offset_from_sees_a_turn_of_a_grid_one_cell_deep():
    flat = Grid.regular((5, 5, 1), (1, 1, 1))
    tilted = np.eye(4)
    tilted[:3, 2] = (0, 0.6, 0.8)
    assert flat.offset_from(Grid(flat.shape, tilted)) == pytest.approx(np.hypot(0.6, 0.2))


@given(lattice=lattices())
def test_from_dict_undoes_to_dict_through_json(lattice):
    grid = Grid(*lattice)
    again = Grid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert (again.shape, again.frame) == (grid.shape, RAS_MM)
    np.testing.assert_array_equal(again.affine, grid.affine)


def test_spacing_of_degrees_is_in_metres() -> None:
    rasterio = pytest.importorskip("rasterio")
    frame = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    # rows run south by 0.001 degrees, columns east by 0.002, about latitude 60, where a degree of longitude is half
    affine = np.array([[0, 0.002, 10.0], [-0.001, 0, 60.0], [0, 0, 1]])
    grid = Grid((1, 1), affine, frame)
    metre = np.deg2rad(1) * 6_371_009
    assert grid.spacing == pytest.approx((0.001 * metre, 0.002 * metre * 0.5), rel=1e-9)
    assert grid.unit == "m"


def test_spacing_of_feet_is_in_metres() -> None:
    rasterio = pytest.importorskip("rasterio")
    frame = rasterio.crs.CRS.from_epsg(2225).to_wkt()  # US survey feet
    grid = Grid((2, 2), np.array([[0, 10.0, 0], [-10.0, 0, 0], [0, 0, 1]]), frame)
    assert grid.spacing == pytest.approx((3.048006, 3.048006), rel=1e-6)
