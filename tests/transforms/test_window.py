import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medseg.transforms.window import coarse_axis, rotation_matrix, rotation_planes, window_shape


@pytest.mark.parametrize(
    ("patch_shape", "spacing", "axis"),
    [
        ((40, 56, 40), (1, 1, 1), None),
        ((20, 256, 224), (3.6, 0.6, 0.6), 0),
        ((256, 224, 20), (0.6, 0.6, 3.6), 2),  # the coarse axis need not come first
        ((64, 64, 64), (0.5, 2.0, 0.5), 1),
        ((64, 20, 64), (1, 1, 1), 1),  # a slab
        ((64, 22, 64), (1, 1, 1), None),
        ((64, 64, 64), (3.0, 1, 1), None),  # 3 is not more than 3
        ((100, 10), (1, 1), None),
        ((64, 48, 1), (4.0, 1.0, 1.0), 2),  # a slice, whatever its spacing
        ((1, 64, 48), (0.1, 1.0, 1.0), 0),
    ],
)
def test_coarse_axis(patch_shape, spacing, axis):
    assert coarse_axis(patch_shape, spacing) == axis


def test_rotation_matrix_is_scipys():
    angles = np.random.default_rng(0).uniform(-180, 180, (5, 3))
    oracle = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix()  # intrinsic: R0 R1 R2
    np.testing.assert_allclose(rotation_matrix(angles, rotation_planes(3, None), 3), oracle, atol=1e-12)


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_rotation_beside_a_coarse_axis_leaves_it(coarse):
    matrix = rotation_matrix(np.array([[35.0]]), rotation_planes(3, coarse), 3)[0]
    np.testing.assert_array_equal(matrix[coarse], np.eye(3)[coarse])
    np.testing.assert_array_equal(matrix[:, coarse], np.eye(3)[coarse])


@pytest.mark.parametrize(
    ("patch_shape", "spacing", "settings", "expected"),
    [
        ((8, 9, 10), (1, 1, 1), {}, (8, 9, 10)),
        # 63 sqrt(2) + 1 = 90.1, rounded up to an even difference
        ((64, 64), (1, 1), {"degrees": 180}, (92, 92)),
        # 1.4 x 63 sqrt(2) + 1 = 125.7 is capped at 1.5 x 64 = 96
        ((64, 64), (1, 1), {"degrees": 180, "scale": 1.4}, (96, 96)),
        ((64, 64), (1, 1), {"degrees": 180, "scale": 1.4, "limit": 9}, (126, 126)),
        # 1.4 x 40 + 1 = 57 on every axis
        ((41, 41, 41), (1, 1, 1), {"scale": 1.4}, (57, 57, 57)),
        ((41, 41, 41), (1, 1, 1), {"scale": 0.7}, (41, 41, 41)),
        ((40, 40), (1, 1), {"displacement_cells": 2.5}, (46, 46)),  # 45, made even
        # a quarter turn of 10 x 20 cells of 2 x 1: extents 18 and 19, so 19/2 + 1 = 10.5 and 18 + 1 = 19;
        # and the diagonal sqrt(18^2 + 19^2) = 26.2 in between: 14.1 and 27.2
        ((10, 20), (2, 1), {"degrees": 90, "limit": 9}, (16, 28)),
        # beside a coarse axis it is not enlarged along it
        ((10, 64, 64), (5, 1, 1), {"degrees": 180, "scale": 1.4, "displacement_cells": 3, "coarse": 0}, (10, 96, 96)),
        ((1, 64, 64), (1, 1, 1), {"scale": 1.25}, (1, 80, 80)),
        ((10, 10), (1, 1), {"scale": 2.0}, (14, 14)),  # 16 would be more than 1.5 times 10
    ],
)
def test_window_shape_by_hand(patch_shape, spacing, settings, expected):
    assert window_shape(patch_shape, spacing, **settings) == expected


def test_window_contains_every_turned_and_scaled_patch():
    rng = np.random.default_rng(0)
    patch_shape, spacing = (20, 30, 12), (1.0, 0.7, 2.0)
    window = np.array(window_shape(patch_shape, spacing, degrees=30, scale=1.4, limit=99))
    corners = np.stack(np.meshgrid(*[[-1, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) * (np.array(patch_shape) - 1) / 2
    turns = rotation_matrix(rng.uniform(-30, 30, (4000, 3)), rotation_planes(3, None), 3)
    sampled = 1.4 * np.einsum("nde,ce->ncd", turns, corners * spacing) / spacing
    reach = np.abs(sampled).max((0, 1))
    assert (reach <= (window - 1) / 2).all()
    assert (reach >= (window - 1) / 2 - 1.5).all()  # and hardly more than that
