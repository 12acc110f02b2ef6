import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medseg.topology.betti import betti_numbers
from medseg.topology.thinning import centrelines
from tests.losses.drawn import mask


@pytest.mark.parametrize("shape", [(40, 36), (16, 20, 18)])
@pytest.mark.parametrize("width", [1, 2])
def test_no_component_loop_or_cavity_comes_or_goes(shape, width):
    # Counted outside: by duality the cells outside, connected across faces, have the holes of cells across corners.
    masks = np.stack([gaussian_filter(np.random.default_rng(i).random(shape), width) > 0.5 for i in range(2)])
    lines = centrelines(torch.from_numpy(masks)).numpy()
    for before, after in zip(masks, lines, strict=True):
        assert betti_numbers(~np.pad(after, 1)) == betti_numbers(~np.pad(before, 1))
        assert after.sum() < before.sum() / 2
        assert not (after & ~before).any()


def test_drawn_shapes():
    bar = mask("..........", ".########.", ".########.", ".########.", "..........").bool()
    line = centrelines(bar)[0]
    assert line[2].sum() == line.sum() >= 6  # the middle row
    ring = mask(".....", ".###.", ".#.#.", ".###.", ".....").bool()
    assert betti_numbers(~np.pad(centrelines(ring)[0].numpy(), 1)) == (2, 1)
    dot = mask("...", ".#.", "...").bool()
    assert torch.equal(centrelines(dot), dot)


def test_line_of_one_cell_is_left_alone_in_3d():
    path = torch.zeros(1, 5, 6, 7, dtype=torch.bool)
    path[0, 2, 1, 1:6] = path[0, 2, 1:5, 5] = path[0, 0:3, 4, 5] = True
    thin = centrelines(path)
    assert thin[0, 2, 1, 1]
    assert thin[0, 0, 4, 5]
    assert thin.sum() >= path.sum() - 2  # the corners


def test_tube_along_the_edge_of_the_array():
    tube = torch.zeros(1, 12, 5, 5, dtype=torch.bool)
    tube[:, :, 1:4, 1:4] = True
    line = centrelines(tube)[0]
    assert line.sum(dim=(1, 2)).eq(1)[1:-1].all()
    assert line[1:-1, 2, 2].all()
