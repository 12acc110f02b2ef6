import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.planning.cost import Budget, UNetCost
from medseg.planning.rules import (
    MIN_EDGE,
    low_resolution,
    patch_and_batch,
    resampled_shape,
    target_spacing,
    topology,
)

LUNG = ((1.24497998, 0.78515625, 0.78515625), (252, 512, 512), 252 * 512 * 512 * 63)
"""Spacing, median shape and cells of the lung set of the Medical Segmentation Decathlon."""


def test_isotropic_data_takes_the_median():
    found = target_spacing([(1, 1, 1), (2, 1, 1.5), (1.2, 1, 1.25)], [(10, 20, 30)] * 3)
    assert found.spacing == (1.2, 1.0, 1.25)
    assert found.reasons == ("median spacing of 3 cases",)


def test_coarse_axis_takes_its_tenth_percentile():
    # Eleven cases of 2, 3, ... 12 mm: median 7, 10th percentile 3 (the second of eleven).
    spacings = [(0.5, s, 0.5) for s in range(2, 13)]
    found = target_spacing(spacings, [(300, 20, 300)] * 11)
    assert found.spacing == (0.5, 3.0, 0.5)
    assert "axis 1 is anisotropic" in found.reasons[1]


def test_coarse_axis_never_becomes_the_finest():
    spacings = [(0.5, s, 1.0) for s in [0.2, 0.2, 0.3, 7, 7, 7, 7]]
    assert target_spacing(spacings, [(300, 20, 300)] * 7).spacing == pytest.approx((0.5, 1.00001, 1.0))


@pytest.mark.parametrize("depth, last", [(99, 4.0), (100, 5.0)])
def test_coarse_spacing_alone_is_not_anisotropy(depth, last):
    # 3 x 99 < 300 cells in plane, 3 x 100 is not; the 10th percentile of 3.8, 5, 5 is 3.8 + 0.2 x 1.2.
    found = target_spacing([(1, 1, 3.75), (1, 1, 5), (1, 1, 5)], [(300, 300, depth)] * 3)
    assert found.spacing == (1.0, 1.0, last)


def test_two_axes_and_mismatched_rows():
    assert target_spacing([(0.5, 2.0), (0.5, 4.0), (0.5, 6.0)], [(400, 40)] * 3).spacing == (0.5, 2.4)
    with pytest.raises(InputError, match=r"got \(2, 3\) and \(1, 3\)"):
        target_spacing([(1, 1, 1)] * 2, [(4, 4, 4)])
    with pytest.raises(InputError, match="a spacing and a shape per case"):
        target_spacing([], [])


def test_resampled_shape_rounds_and_keeps_a_cell():
    assert resampled_shape((20, 101, 3), (5.0, 0.5, 0.1), (2.5, 1.0, 1.0)) == (40, 50, 1)


def test_topology_of_isotropic_cells():
    # 36 -> 18 -> 9 -> 5, 50 -> 25 -> 13 -> 7, 35 -> 18 -> 9 -> 5; below 8 nothing is halved.
    found = topology((1.0, 1.0, 1.0), (36, 50, 35))
    assert found.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert found.kernels == ((3, 3, 3),) * 4
    assert (found.patch, found.divisor) == ((40, 56, 40), (8, 8, 8))


def test_topology_of_thick_slices():
    # Spacing 3.6 against 0.625, 1.25 (2.9 times), 2.5 (1.4 times, kernel 3), where 20 slices halve: 10, 5.
    # In plane 320 and 256 halve six times in all, to 5 and 4.
    found = topology((3.6, 0.625, 0.625), (20, 320, 256))
    assert found.kernels == ((1, 3, 3), (1, 3, 3), *((3, 3, 3),) * 5)
    assert found.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert found.patch == (20, 320, 256)
    assert "axis 0 is 5.76 times coarser" in found.reasons[1]


def test_a_last_axis_is_halved_from_twelve_cells_only():
    assert topology((1.0, 1.0), (7, 11)).strides == ((1, 1),)
    assert topology((1.0, 1.0), (7, 12)).strides == ((1, 1), (1, 2))


def test_bottleneck_kernel_is_three_even_on_a_coarse_axis():
    # 16 -> 8 on the fine axis alone, which stops below 12.
    assert topology((50.0, 1.0), (16, 16)).kernels == ((1, 3), (3, 3))


sizes = st.integers(1, 400)
spacings = st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.9, 2.0, 3.1, 5.0, 9.0])


@given(st.lists(st.tuples(spacings, sizes), min_size=2, max_size=3))
def test_topology_invariants(axes):
    spacing, patch = zip(*axes, strict=True)
    found = topology(spacing, patch)
    assert len(found.kernels) == len(found.strides)
    assert all(0 <= p - n < d for n, p, d in zip(patch, found.patch, found.divisor, strict=True))
    assert all(p % d == 0 for p, d in zip(found.patch, found.divisor, strict=True))
    assert all(p // d >= min(MIN_EDGE, n) for n, p, d in zip(patch, found.patch, found.divisor, strict=True))
    assert all(sum(stride) > len(patch) for stride in found.strides[1:])


@given(st.lists(st.tuples(spacings, sizes), min_size=3, max_size=3), st.permutations([0, 1, 2]))
def test_topology_follows_the_axes(axes, order):
    def reorder(row):
        return tuple(row[a] for a in order)

    spacing, patch = zip(*axes, strict=True)
    found = topology(spacing, patch)
    moved = topology(reorder(spacing), reorder(patch))
    assert moved.strides == tuple(map(reorder, found.strides))
    assert moved.kernels == tuple(map(reorder, found.kernels))


# Plans that nnU-Net made, as its users posted them (nnUNet issues 148, 2094, 1768, 2251 and two plan files).
PUBLISHED = [
    pytest.param((1, 1, 1), (36, 50, 35), 260, 3, (40, 56, 40), 9, id="hippocampus"),
    pytest.param((1.24497998, 0.78515625, 0.78515625), (252, 512, 512), 63, 2, (80, 192, 160), 2, id="lung"),
    pytest.param((1.5, 0.7832, 0.7832), (143, 512, 512), 100, 2, (56, 224, 192), 2, id="liver-metastases"),
    pytest.param((1, 1), (2848, 4288), 81, 2, (1024, 1536), 2, id="fundus-2d"),
    pytest.param((1, 1), (170, 138), 484 * 138, 4, (192, 160), 105, id="brain-tumour-2d"),
    pytest.param((1, 1), (176, 176), 500 * 176, 3, (192, 192), 88, id="head-and-neck-2d"),
    # Isensee et al. 2021, supplement
    pytest.param((1, 1, 1), (138, 170, 138), 484, 4, (128, 128, 128), 2, id="brain-tumour"),
    pytest.param((3.6, 0.625, 0.625), (20, 320, 319), 32, 3, (20, 320, 256), 2, id="prostate"),
]


@pytest.mark.parametrize("spacing, median, n, out_channels, patch, batch", PUBLISHED)
def test_plans_equal_published_ones(spacing, median, n, out_channels, patch, batch):
    found = patch_and_batch(spacing, median, np.prod(median, dtype=float) * n, out_channels=out_channels)
    assert (found.patch, found.batch) == (patch, batch)
    assert found.topology.patch == patch


def test_outputs_and_batch_of_the_hippocampus_by_hand():
    # In units of the patch's 40 x 56 x 40 cells: encoder 2 x 32, 2 x 64 / 8, 2 x 128 / 64, 2 x 256 / 512; decoder with
    # a transposed convolution each 3 x 128 / 64, 3 x 64 / 8, 3 x 32; 3 logits. 64 + 16 + 4 + 1 + 6 + 24 + 96 + 3 = 214.
    found = patch_and_batch((1, 1, 1), (36, 50, 35), 36 * 50 * 35 * 260, out_channels=3)
    assert found.outputs == 214 * 40 * 56 * 40
    # 5 % of 260 cases of 63000 cells make 9.1 patches; memory alone 560e6 / 19.17e6 x 2 = 58.4.
    assert "9 hold 5% of all cells" in found.reasons[1]
    assert patch_and_batch((1, 1, 1), (36, 50, 35), 1e12, out_channels=3).batch == 58
    for n_voxels, told in (
        (1e5, "a single patch holds more than 5% of all cells; never fewer than 2"),
        (2e6, "1 holds 5% of all cells; never fewer than 2"),
    ):
        scarce = patch_and_batch((1, 1, 1), (36, 50, 35), n_voxels, out_channels=3)
        assert scarce.reasons[1] == f"batch size 2: {told}"


@given(
    st.lists(st.tuples(spacings, st.integers(1, 600)), min_size=2, max_size=3),
    st.sampled_from([0.1, 1.0, 8.0]),
    st.booleans(),
)
def test_plan_invariants(axes, memory_gb, residual):
    spacing, median = zip(*axes, strict=True)
    budget = Budget.for_memory(len(axes), memory_gb, residual=residual)
    found = patch_and_batch(spacing, median, 1e9, out_channels=3, cost=UNetCost(residual=residual), budget=budget)
    assert found.outputs * budget.must_fit / budget.batch <= budget.outputs
    assert found.batch >= 2
    assert found.outputs * (found.batch - 0.5) / budget.batch <= budget.outputs or found.batch == 2
    assert topology(spacing, found.patch).patch == found.patch
    assert all(p >= min(MIN_EDGE, m) for p, m in zip(found.patch, median, strict=True))


def test_more_memory_never_shrinks_the_patch():
    cells = [
        np.prod(patch_and_batch(*LUNG, out_channels=2, budget=Budget.for_memory(3, gb)).patch) for gb in (2, 8, 40)
    ]
    assert cells == sorted(set(cells))


def test_a_hopeless_budget_is_refused():
    with pytest.raises(InputError, match="not even a patch of"):
        patch_and_batch((1, 1, 1), (100, 100, 100), 1e9, out_channels=2, budget=Budget.for_memory(3, 1e-6))


def test_a_cascade_begins_where_a_patch_holds_a_quarter_of_the_case():
    # 64 of 256 on each axis hold 1/64. At a spacing s they hold (s / 4)^3, so s >= 4 x 0.25^(1/3) = 2.52: 1.03^32
    low = low_resolution((1.0, 1.0, 1.0), (64, 64, 64), (256, 256, 256), lambda spacing: (64, 64, 64))
    assert low == pytest.approx((1.03**32,) * 3)
    # a quarter is enough at once; at 0.2 the case would have 1.25 times fewer cells, less than twice
    assert low_resolution((1.0, 1.0, 1.0), (64, 64, 64), (64, 64, 256), lambda spacing: (64, 64, 64)) is None
    assert low_resolution((1.0, 1.0, 1.0), (64, 64, 64), (64, 64, 320), lambda spacing: (64, 64, 64)) is None


def test_fine_axes_of_a_cascade_grow_first():
    low = low_resolution((5.0, 1.0, 1.0), (20, 64, 64), (40, 200, 200), lambda spacing: (20, 64, 64))
    assert low[0] == 5.0, "the others are more than twice finer until they hold enough"
    assert low[1] == low[2] == pytest.approx(1.03**27), "half of an axis, and (64 s / 200)^2 of two: s >= 2.21"


def test_the_patch_of_a_cascade_is_planned_anew_for_each_spacing():
    seen = []

    def patch_at(spacing):
        seen.append(tuple(spacing))
        return (128, 128, 128) if len(seen) == 3 else (64, 64, 64)

    low = low_resolution((1.0, 1.0, 1.0), (64, 64, 64), (190, 190, 190), patch_at)
    assert low is None, "at 1.03^3 the larger patch holds a quarter, and the case has 1.3 times fewer cells"
    assert seen == [pytest.approx((1.03**n,) * 3) for n in (1, 2, 3)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_slices_that_are_stored_as_volumes_are_planned_in_two_dimensions(order):
    """Whatever the axis of one cell and its spacing, patch, strides and kernels are those of two dimensions."""

    def arranged(values):
        return tuple(values[axis] for axis in order)

    for thickness in (0.1, 1.0, 30.0):
        flat = patch_and_batch(arranged((0.7, 0.8, thickness)), arranged((700, 900, 1)), 50 * 700 * 900, out_channels=2)
        plane = patch_and_batch((0.7, 0.8), (700, 900), 50 * 700 * 900, out_channels=2)
        assert flat.patch == arranged((*plane.patch, 1))
        assert flat.topology.strides == tuple(arranged((*s, 1)) for s in plane.topology.strides)
        assert flat.topology.kernels == tuple(arranged((*k, 1)) for k in plane.topology.kernels)
        assert f"axis {order.index(2)} has one cell: no kernel spans it" in flat.topology.reasons
