import numpy as np
import pytest
from scipy import ndimage

from medseg.topology.betti import betti_numbers


def drawn(*rows):
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (drawn("...", "..."), (0, 0)),
        (drawn("#.#", ".#."), (3, 0)),  # across corners is apart
        (drawn("###", "#.#", "###"), (1, 1)),
        (drawn("####", "#..#", "#.##", "###."), (1, 1)),
        (drawn("###", "#.#", "##."), (1, 0)),  # the hole is open across the corner
        (drawn("#####", "#.#.#", "#####"), (1, 2)),
        (drawn("#..", "#..", "###"), (1, 0)),  # what the edge closes is no hole
    ],
)
def test_drawn_shapes_are_counted_by_hand(mask, expected):
    assert betti_numbers(mask) == expected


def test_drawn_volumes_are_counted_by_hand():
    shell = np.ones((3, 3, 3), dtype=bool)
    shell[1, 1, 1] = False
    torus = np.repeat(np.pad(drawn("###", "#.#", "###"), 1)[None], 2, axis=0)
    handles = np.repeat(drawn("#####", "#.#.#", "#####")[None], 2, axis=0)
    assert betti_numbers(shell) == (1, 0, 1)
    assert betti_numbers(torus) == (1, 1, 0)
    assert betti_numbers(handles) == (1, 2, 0)
    both = np.zeros((5, 5, 12), dtype=bool)
    both[:3, :3, :3], both[:2, :5, 4:9] = shell, torus
    assert betti_numbers(both) == (2, 1, 1)
    assert betti_numbers(np.zeros((3, 4, 5), dtype=bool)) == (0, 0, 0)


@pytest.mark.parametrize("shape", [(20, 18), (9, 10, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_gudhi(shape, seed):
    gudhi = pytest.importorskip("gudhi")
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 0.7) > 0.5
    complex_ = gudhi.CubicalComplex(vertices=np.where(mask, 0.0, 1.0))
    complex_.compute_persistence()
    assert list(betti_numbers(mask)) == complex_.persistent_betti_numbers(0.5, 0.5)[: len(shape)]
