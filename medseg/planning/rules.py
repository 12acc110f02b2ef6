"""The rules that turn facts of a dataset into spacing, patch, batch size and network topology.

Pure functions of numbers, for two and three dimensions and any order of axes. Every result carries
its reasons, which the plan file shows next to the numbers.

The rules are those of nnU-Net (Isensee et al., Nature Methods 2021, as released in version 2.8).
Differences: axes are never transposed, two dimensions are not a volume of depth one, an axis of one cell
has kernels of 1 wherever it stands, an axis is not shrunk below ``MIN_EDGE`` cells, and a budget that no
patch satisfies is an error instead of a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from medseg.errors import InputError
from medseg.planning.cost import Budget, UNetCost, convolution_outputs

MIN_EDGE = 4
"""Least number of cells that pooling leaves on an axis, if it had as many before."""
ANISOTROPY = 3.0
"""An axis is coarse if its spacing exceeds this many times that of every other axis."""
START_VOLUME = {2: 2048**2, 3: 256**3}
"""Cells of the patch that shrinking starts from, by number of axes."""

SEEN = 0.25
"""Share of the median case that a patch holds, below which a cascade begins at low resolution."""
_GROWTH = 1.03
"""Factor by which cells grow until a patch holds that share."""


@dataclass(frozen=True)
class TargetSpacing:
    """Spacing that all cases are resampled to, with the reasons for it."""

    spacing: tuple[float, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Topology:
    """Stages of a U-Net, fine to coarse; the last one is the bottleneck.

    Attributes:
        kernels: Convolution kernel of each stage.
        strides: Stride at the entrance of each stage; the first is 1 on every axis.
        patch: The patch, padded up to multiples of ``divisor``.
        reasons: Sentences for the plan file.
    """

    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]
    reasons: tuple[str, ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """Product of the strides on each axis."""
        return tuple(prod(axis) for axis in zip(*self.strides, strict=True))


@dataclass(frozen=True)
class PatchPlan:
    """Patch, batch size and topology, with the convolution outputs they cost (per case)."""

    patch: tuple[int, ...]
    batch: int
    topology: Topology
    outputs: int
    reasons: tuple[str, ...]


def target_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> TargetSpacing:
    """Spacing to resample to: the median of each axis, finer on a coarse axis of anisotropic data.

    The axis of largest median spacing takes the 10th percentile of its spacings instead, if that
    median is more than ``ANISOTROPY`` times every other and its median shape, times ``ANISOTROPY``, is
    below every other. It never becomes finer than the coarsest other axis.

    Args:
        spacings: One row per case.
        shapes: Cells of the same cases, after cropping.

    Raises:
        InputError: No cases, or rows that do not match.

    Example:
        >>> target_spacing([(1, 1, 1), (1, 1, 3)], [(40, 40, 40), (40, 40, 20)]).spacing
        (1.0, 1.0, 2.0)
    """
    if not len(spacings) or np.shape(spacings) != np.shape(shapes):
        raise InputError(
            f"plan: expected a spacing and a shape per case, got {np.shape(spacings)} and {np.shape(shapes)}"
        )
    spacing, shape = np.median(spacings, axis=0), np.median(shapes, axis=0)
    reasons = [f"median spacing of {len(spacings)} cases"]
    coarse = int(np.argmax(spacing))
    finest_allowed = np.delete(spacing, coarse).max()
    if spacing[coarse] > ANISOTROPY * finest_allowed and ANISOTROPY * shape[coarse] < np.delete(shape, coarse).min():
        fine = float(np.percentile(np.asarray(spacings)[:, coarse], 10))
        reasons.append(
            f"axis {coarse} is anisotropic (median spacing {spacing[coarse]:g} against {finest_allowed:g}, "
            f"{shape[coarse]:g} cells): its 10th percentile {fine:g} keeps detail of the finer cases"
        )
        spacing[coarse] = fine if fine >= finest_allowed else finest_allowed + 1e-5
    return TargetSpacing(tuple(map(float, spacing)), tuple(reasons))


def resampled_shape(shape: Sequence[float], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Cells after resampling: ``round(spacing / target * shape)`` on each axis, at least 1.

    Example:
        >>> resampled_shape((20, 100, 100), (5.0, 0.5, 0.5), (2.5, 1.0, 1.0))
        (40, 50, 50)
    """
    return tuple(max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, target, strict=True))


def topology(spacing: Sequence[float], patch: Sequence[int]) -> Topology:
    """Stages of a U-Net for a patch of cells of this spacing.

    Each step halves the axes that still have ``2 * MIN_EDGE`` cells and whose current spacing is less
    than twice the finest such; a last axis on its own is halved only from ``3 * MIN_EDGE`` cells. A
    kernel is 1 on an axis until its spacing has come within twice the finest, and 3 from then on, so
    that kernels and pooling cover about the same distance on every axis. An axis of one cell, as that of slices stored
    as volumes, is no distance: its kernels are 1, and its spacing does not count.

    Example:
        >>> topology((5.0, 1.0), (16, 64)).strides
        ((1, 1), (1, 2), (1, 2), (2, 2), (2, 2))
        >>> topology((1.0, 1.0, 1.0), (8, 8, 1)).kernels
        ((3, 3, 1), (3, 3, 1))
    """
    flat = [cells == 1 < max(patch) for cells in patch]
    now, size = [float(s) for s in spacing], [int(p) for p in patch]
    kernel, kernels, strides = [1] * len(size), [], [(1,) * len(size)]
    while halved := _halved_axes(now, size):
        kernel = _wider(kernel, now, flat)
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in range(len(size))))
        now = [s * f for s, f in zip(now, strides[-1], strict=True)]
        size = [ceil(n / f) for n, f in zip(size, strides[-1], strict=True)]
    kernels.append(tuple(1 if one else 3 for one in flat))
    divisor = [prod(f) for f in zip(*strides, strict=True)]
    padded = _padded(patch, divisor)
    stages = f"{len(strides)} stages halve the patch by {divisor}, which leaves {size} cells at the coarsest"
    return Topology(tuple(kernels), tuple(strides), padded, (stages, *_narrow_axes(kernels[0], spacing, flat)))


def _padded(patch: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """The patch, rounded up to multiples."""
    return tuple(ceil(p / d) * d for p, d in zip(patch, divisor, strict=True))


def _wider(kernel: Sequence[int], spacing: Sequence[float], flat: Sequence[bool]) -> list[int]:
    """The kernel of the next stage: 3 from where an axis comes within twice the finest spacing; 1 on flat axes."""
    finest = _finest(spacing, flat)
    axes = zip(kernel, spacing, flat, strict=True)
    return [3 if not one and (k == 3 or s / finest < 2) else 1 for k, s, one in axes]


def _finest(spacing: Sequence[float], flat: Sequence[bool]) -> float:
    """Smallest spacing of the axes that are not flat."""
    return min(s for s, one in zip(spacing, flat, strict=True) if not one)


def _narrow_axes(kernel: Sequence[int], spacing: Sequence[float], flat: Sequence[bool]) -> Iterator[str]:
    """Why the first kernels do not span an axis, of each that they do not."""
    for axis, cells in enumerate(kernel):
        if flat[axis]:
            yield f"axis {axis} has one cell: no kernel spans it"
        elif cells == 1:
            ratio = spacing[axis] / _finest(spacing, flat)
            yield f"axis {axis} is {ratio:.3g} times coarser than the finest: the first kernels do not span it"


def _halved_axes(spacing: Sequence[float], size: Sequence[int]) -> list[int]:
    """Axes that the next stage halves; empty at the coarsest."""
    enough = [axis for axis, cells in enumerate(size) if cells >= 2 * MIN_EDGE]
    halved = [axis for axis in enough if spacing[axis] / min(spacing[a] for a in enough) < 2]
    return [] if len(halved) == 1 and size[halved[0]] < 3 * MIN_EDGE else halved


def patch_and_batch(
    spacing: Sequence[float],
    median_shape: Sequence[float],
    n_voxels: float,
    *,
    out_channels: int,
    cost: UNetCost | None = None,
    budget: Budget | None = None,
) -> PatchPlan:
    """Largest patch within the budget, then as many cases per batch as fit together.

    The patch starts out cubic in world units with ``START_VOLUME`` cells, clipped to the median shape,
    and loses cells on the axis that covers most of the median shape (the last of equals) until
    ``budget.must_fit`` cases fit. The batch holds at most ``budget.coverage`` of all cells, at least 2.
    Slices that are stored as volumes start from a square.

    Args:
        spacing: Target spacing.
        median_shape: Median of the resampled shapes.
        n_voxels: Cells of all training cases after resampling.
        out_channels: Outputs of the network, k.
        cost: The kind of U-Net; a plain one by default.
        budget: Default: 8 GB.

    Raises:
        InputError: Not even the smallest patch fits.
    """
    cost = cost or UNetCost()
    extended = _extended(spacing, median_shape)
    budget = budget or Budget.for_memory(len(extended), residual=cost.residual)
    edge = (START_VOLUME[len(extended)] * prod(extended)) ** (1 / len(extended))
    start = tuple(ceil(min(round(edge / s), m)) for s, m in zip(spacing, median_shape, strict=True))
    stages = topology(spacing, start)
    outputs = convolution_outputs(stages.patch, stages.strides, out_channels, cost)
    affordable = budget.outputs * budget.batch / budget.must_fit
    while outputs > affordable:
        stages = _shrink(spacing, stages, median_shape)
        outputs = convolution_outputs(stages.patch, stages.strides, out_channels, cost)
    fitting = round(budget.outputs / outputs * budget.batch)
    cap = round(budget.coverage * n_voxels / prod(stages.patch))
    batch = max(min(fitting, cap), 2)
    covers = all(p >= m for p, m in zip(stages.patch, median_shape, strict=True))
    reasons = (
        f"patch {list(stages.patch)} of a median case of {[round(m) for m in median_shape]}: "
        f"{'holds it whole' if covers else 'as much as the memory holds'} "
        f"({outputs / 1e6:.0f} million convolution outputs of {affordable / 1e6:.0f})",
        f"batch size {batch}: {_bound(fitting, cap, budget.coverage)}"
        + ("; never fewer than 2" if batch > min(fitting, cap) else ""),
    )
    return PatchPlan(stages.patch, batch, stages, outputs, reasons)


def _extended(spacing: Sequence[float], median_shape: Sequence[float]) -> Sequence[float]:
    """Spacing of the two axes along which slices that are stored as volumes extend; of other data that of all axes."""
    longer = [s for s, cells in zip(spacing, median_shape, strict=True) if cells > 1]
    return longer if len(longer) == 2 else spacing


def low_resolution(
    spacing: Sequence[float],
    patch: Sequence[int],
    median_shape: Sequence[float],
    patch_at: Callable[[Sequence[float]], Sequence[int]],
) -> tuple[float, ...] | None:
    """Spacing of the first network of a cascade; None where a patch sees enough of a case, or little would be gained.

    Cells become larger until a patch holds ``SEEN`` of the median case. Axes that are more than twice finer than the
    coarsest grow first. If the case then has less than twice fewer cells, one network is enough.

    Args:
        spacing: Target spacing at full resolution.
        patch: Patch at full resolution.
        median_shape: Median of the shapes at full resolution.
        patch_at: Plans the patch for a spacing.
    """
    full, low = float(prod(median_shape)), [float(s) for s in spacing]
    if prod(patch) / full >= SEEN:
        return None
    cells = full
    while prod(patch) / cells < SEEN:
        fine = [max(low) / s > 2 for s in low]
        low = [s * _GROWTH if f or not any(fine) else s for s, f in zip(low, fine, strict=True)]
        cells = prod(n * old / new for n, old, new in zip(median_shape, spacing, low, strict=True))
        patch = patch_at(low)
    return tuple(low) if full / cells >= 2 else None


def _bound(fitting: int, cap: int, coverage: float) -> str:
    """What bounds a batch: the patches that fit the memory, or those that hold the allowed fraction of all cells."""
    if fitting <= cap:
        return f"{fitting} fit the memory"
    held = f"{cap} {'holds' if cap == 1 else 'hold'}" if cap else "a single patch holds more than"
    return f"{held} {coverage:.0%} of all cells"


def _shrink(spacing: Sequence[float], stages: Topology, median_shape: Sequence[float]) -> Topology:
    """Topology of the patch with fewer cells on the axis that covers most of the median shape.

    Subtracting the divisor itself would skip valid sizes: from 256 (pooled by 64) it leads to 192,
    past 224, which is pooled by 32. So the divisor after that step is subtracted instead.
    """
    options = []
    for axis, (cells, divisor) in enumerate(zip(stages.patch, stages.divisor, strict=True)):
        tried = [n - divisor if a == axis else n for a, n in enumerate(stages.patch)]
        if tried[axis] >= MIN_EDGE:
            step = topology(spacing, tried).divisor[axis]
            smaller = topology(spacing, [n - step if a == axis else n for a, n in enumerate(stages.patch)])
            options.append((cells / median_shape[axis], axis, smaller))
    if not options:
        raise InputError(
            f"plan: not even a patch of {list(stages.patch)} fits the memory; raise the budget or use fewer features"
        )
    return max(options, key=lambda option: option[:2])[2]
