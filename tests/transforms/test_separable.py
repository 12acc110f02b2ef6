import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from medseg.transforms.separable import along_axis, gaussian_matrix, low_resolution_matrix, separable, spline_matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_axis_is_a_product_per_map(axis):
    maps, matrix = torch.randn(2, 4, 5, 6), torch.randn(2, 3, (4, 5, 6)[axis])
    letters = "ijk"
    rule = f"nijk,no{letters[axis]}->n{letters.replace(letters[axis], 'o')}"
    torch.testing.assert_close(along_axis(maps, matrix, axis), torch.einsum(rule, maps, matrix))


@pytest.mark.parametrize("space", [(9, 12), (6, 3, 8), (1, 7, 2)])
def test_blur_is_scipys_with_its_own_width_for_each_map(space):
    maps = torch.randn(3, *space)
    sigma = np.random.default_rng(0).uniform(0.4, 1.3, (3, len(space)))
    blurred = separable(maps, [gaussian_matrix(s, n) for s, n in zip(sigma.T, space)])
    for i in range(3):
        oracle = gaussian_filter(maps[i].double().numpy(), sigma[i], mode="mirror")
        np.testing.assert_allclose(blurred[i].numpy(), oracle, atol=2e-6)


def test_blur_of_width_zero_changes_nothing_and_others_do_not_matter():
    alone, beside = gaussian_matrix(np.array([0.6]), 9), gaussian_matrix(np.array([0.6, 0.0, 2.0]), 9)
    assert torch.equal(alone[0], beside[0])
    assert torch.equal(beside[1], torch.eye(9))


@pytest.mark.parametrize("space", [(10, 17), (8, 13, 5)])
def test_low_resolution_is_nearest_down_and_linear_up(space):
    maps = torch.randn(3, *space)
    zoom = np.array([0.5, 0.61, 0.93])
    coarse = separable(maps, [low_resolution_matrix(zoom, n) for n in space])
    for i in range(3):
        small = [round(zoom[i] * n) for n in space]
        down = F.interpolate(maps[i][None, None], size=small, mode="nearest-exact")
        mode = "bilinear" if len(space) == 2 else "trilinear"
        up = F.interpolate(down, size=space, mode=mode, align_corners=False)
        torch.testing.assert_close(coarse[i], up[0, 0])


def test_low_resolution_by_hand():
    # 4 cells to 2: cells 1 and 3 are kept (nearest-exact), at the places 0.5 and 2.5 of the row
    row = separable(torch.tensor([[0.0, 10.0, 20.0, 50.0]]), [low_resolution_matrix(np.array([0.5]), 4)])
    assert row.tolist() == [[10.0, 20.0, 40.0, 50.0]]
    assert torch.equal(low_resolution_matrix(np.array([0.5]), 1), torch.ones(1, 1, 1))


@pytest.mark.parametrize(("size", "knots"), [(20, 7), (11, 4), (1, 5)])
def test_spline_is_scipys(size, knots):
    matrix = spline_matrix(size, knots).numpy()
    position = np.arange(size) / max(size - 1, 1) * (knots - 3)
    oracle = BSpline(np.arange(-3, knots + 1), np.eye(knots), 3)(position)
    np.testing.assert_allclose(matrix, oracle, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
