import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from scipy.spatial.distance import cdist

from medseg.metrics.assd import assd
from medseg.metrics.hd import hd
from medseg.metrics.hd95 import hd95
from medseg.metrics.masd import masd
from medseg.metrics.nsd import nsd
from medseg.metrics.surface import surface, surface_distances

SPACINGS = {2: (1.5, 0.7), 3: (1.0, 2.0, 3.0)}


def masks(shape):
    mask = hnp.arrays(bool, shape).filter(lambda m: m.any())
    return st.tuples(mask, mask)


@given(hnp.arrays(bool, (5, 4, 3)))
def test_surface_is_what_erosion_removes(mask):
    cross = ndimage.generate_binary_structure(3, 1)
    assert (surface(mask) == (mask & ~ndimage.binary_erosion(mask, cross, border_value=0))).all()


def brute_force(pred, label, spacing):
    cross = ndimage.generate_binary_structure(pred.ndim, 1)
    points = [np.argwhere(m & ~ndimage.binary_erosion(m, cross)) * np.array(spacing) for m in (pred, label)]
    distances = cdist(*points)
    return distances.min(1), distances.min(0)


@given(st.one_of(masks((5, 6)), masks((4, 3, 5)), masks((4, 5, 1))))
def test_equals_brute_force(pair):
    pred, label = pair
    spacing = SPACINGS[pred.ndim]
    to_label, to_pred = brute_force(pred, label, spacing)
    distances = surface_distances(pred, label, spacing)
    np.testing.assert_allclose(distances.to_label, to_label, rtol=1e-6)
    np.testing.assert_allclose(distances.to_pred, to_pred, rtol=1e-6)
    assert hd95(distances) == pytest.approx(max(np.percentile(to_label, 95), np.percentile(to_pred, 95)), rel=1e-6)
    assert hd(distances) == pytest.approx(max(to_label.max(), to_pred.max()), rel=1e-6)
    assert masd(distances) == pytest.approx((to_label.mean() + to_pred.mean()) / 2, rel=1e-6)
    both = np.concatenate([to_label, to_pred])
    assert assd(distances) == pytest.approx(both.mean(), rel=1e-6)
    assert nsd(distances, 1.5) == pytest.approx((both <= 1.5 + 1e-9).mean())


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI 1.6 warns of its own call
@pytest.mark.parametrize("seed", range(3))
def test_equals_monai(seed):
    rng = np.random.default_rng(seed)
    pred, label = (ndimage.gaussian_filter(rng.random((2, 14, 12, 10)), (0, 2, 2, 2)) > 0.5)[:2]
    spacing = (1.0, 2.0, 3.0)
    one_hot = [torch.from_numpy(m)[None, None].float() for m in (pred, label)]
    distances = surface_distances(pred, label, spacing)
    theirs = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=spacing)
    assert hd95(distances) == pytest.approx(theirs.item(), rel=1e-5)
    theirs = compute_hausdorff_distance(*one_hot, include_background=True, spacing=spacing)
    assert hd(distances) == pytest.approx(theirs.item(), rel=1e-6)
    directed = [
        compute_average_surface_distance(*pair, include_background=True, spacing=spacing).item()
        for pair in (one_hot, one_hot[::-1])
    ]
    assert masd(distances) == pytest.approx(sum(directed) / 2, rel=1e-6)
    theirs = compute_surface_dice(*one_hot, [2.0], include_background=True, spacing=spacing)
    assert nsd(distances, 2.0) == pytest.approx(theirs.item(), rel=1e-6)
    theirs = compute_average_surface_distance(*one_hot, include_background=True, symmetric=True, spacing=spacing)
    assert assd(distances) == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("axis,step_mm", [(0, 1.0), (1, 2.0), (2, 3.0)])
def test_two_cubes_two_voxels_apart(axis, step_mm):
    # Of the 26 surface cells of either 3-cube, 9 (the far face) are two voxels from the other, 8 one,
    # and 9 are shared.
    label = np.zeros((9, 9, 9), dtype=bool)
    label[2:5, 2:5, 2:5] = True
    distances = surface_distances(np.roll(label, 2, axis), label, (1.0, 2.0, 3.0))
    for directed in distances:
        assert sorted(directed / step_mm) == pytest.approx([0] * 9 + [1] * 8 + [2] * 9)
    assert hd95(distances) == pytest.approx(2 * step_mm)
    assert assd(distances) == pytest.approx(step_mm)
    assert [nsd(distances, n * step_mm) for n in (0, 1, 2)] == pytest.approx([9 / 26, 17 / 26, 1])


@pytest.mark.parametrize("step_mm", [0.1, 0.3, 0.7])  # the first two are larger in float32
def test_tolerance_includes_the_float32_distance(step_mm):
    label = np.zeros((1, 5), dtype=bool)
    label[0, 1] = True
    distances = surface_distances(np.roll(label, 1, 1), label, (1.0, step_mm))
    assert nsd(distances, step_mm) == 1.0
    assert nsd(distances, 0.99 * step_mm) == 0.0


def test_directions_do_not_matter_and_equals_are_perfect():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 6, 7, 5)) > 0.6
    spacing = (1.0, 2.0, 3.0)
    ab, ba = surface_distances(a, b, spacing), surface_distances(b, a, spacing)
    assert (hd95(ab), nsd(ab, 1.0), assd(ab)) == pytest.approx((hd95(ba), nsd(ba, 1.0), assd(ba)))
    aa = surface_distances(a, a, spacing)
    assert (hd95(aa), nsd(aa, 0.0), assd(aa)) == (0.0, 1.0, 0.0)


def test_place_in_the_array_does_not_matter():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 5, 6)) > 0.5
    padded = [np.pad(m, ((3, 1), (0, 4))) for m in (a, b)]
    assert hd95(surface_distances(*padded, (1.0, 2.0))) == hd95(surface_distances(a, b, (1.0, 2.0)))


def test_a_missing_structure_is_nan():
    some, none = np.ones((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool)
    for pair in ((some, none), (none, some), (none, none)):
        distances = surface_distances(*pair, (1.0, 1.0))
        values = (hd(distances), hd95(distances), nsd(distances, 1.0), assd(distances), masd(distances))
        assert all(math.isnan(v) for v in values)


def test_a_large_surface_weighs_more_in_the_mean_over_cells_alone():
    label, pred = np.zeros((2, 1, 12), dtype=bool)
    label[0, 0] = pred[0, 0:10] = True  # distances 0 to 9 one way, 0 the other
    distances = surface_distances(pred, label, (1.0, 2.0))
    assert masd(distances) == pytest.approx((9 + 0) / 2)
    assert assd(distances) == pytest.approx(2 * 45 / 11)
    assert hd(distances) == 18.0
