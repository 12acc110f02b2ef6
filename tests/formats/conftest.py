"""Affines that a reader or writer can get wrong, each in its own way."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medseg.geometry.grid import Grid

SHAPE = (5, 7, 4)


def _affine(linear, origin=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, origin
    return affine


_OBLIQUE = Rotation.from_euler("zyx", [11, -23, 37], degrees=True).as_matrix()
_AFFINES = {
    "ras": _affine(np.eye(3)),
    "lps_anisotropic": _affine(np.diag([-0.7, -0.8, 5.0]), (90.5, 120.25, -310.125)),
    "psr_permuted": _affine([[0, 0, 1.2], [-0.5, 0, 0], [0, 0.9, 0]], (-10, 20, 30)),
    "oblique": _affine(_OBLIQUE * (0.6, 0.6, 3.3), (-17.3, 45.9, 1203.4)),
    "oblique_left_handed": _affine(_OBLIQUE * (-0.9, 1.1, 2.0), (7.7, -8.8, 9.9)),
}


@pytest.fixture(params=_AFFINES.values(), ids=_AFFINES.keys())
def grid(request):
    return Grid(SHAPE, request.param)


@pytest.fixture(params=["uint8", "int16", "float32", "int64"])
def numbers(request):
    """Cells without symmetry that use the width of their type."""
    dtype = np.dtype(request.param)
    top = np.iinfo(dtype).max if dtype.kind in "iu" else 1000
    return np.random.default_rng(5).integers(-top // 2 if dtype.kind != "u" else 0, top, size=SHAPE).astype(dtype)
