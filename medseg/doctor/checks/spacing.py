"""Spacing: cells that are off by orders of magnitude, or too different to be learned from together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.doctor.finding import Finding
from medseg.doctor.survey import Survey
from medseg.geometry.grid import RAS_MM

_ORDER = 8.0
"""Times the median cell from which on a unit was mistaken (cm for mm is 10)."""
_ALIKE = 1.6  # as planning has it for scenes, which are not resampled
_FEWEST = 3
_SMALLEST_MM, _LARGEST_MM = 0.005, 100.0


def spacing(survey: Survey) -> list[Finding]:
    """Cases whose cells are far larger or smaller than those of the others."""
    sizes = {f.id: sorted(f.grid.spacing) for f in survey.readable if f.grid is not None}
    if len(sizes) < _FEWEST:
        return _absolute(survey)
    comparable = {case: size for case, size in sizes.items() if len(size) == survey.spec.ndim}
    strange = _of_another_order(comparable)
    others = {case: size for case, size in sizes.items() if case not in strange}
    return [*_absolute(survey), *strange.values(), *_native(survey, others)]


def _of_another_order(sizes: Mapping[str, Sequence[float]]) -> dict[str, Finding]:
    """Cases whose cells are orders of magnitude away from those of the median case."""
    median: list[float] = np.median(list(sizes.values()), axis=0).tolist() if sizes else []
    fix = "fix the voxel sizes of its header (cm, m or micrometres taken for mm?), or take the case out"
    return {
        case: Finding(
            "spacing", "warning", (case,), f"{case}: cells of {_short(size)}, where the median case has "
            f"{_short(median)}", fix,
        )
        for case, size in sizes.items()
        if _apart(size, median) >= _ORDER
    }  # fmt: skip


def _native(survey: Survey, sizes: dict[str, list[float]]) -> list[Finding]:
    """Scenes that are not resampled need cells of about one size."""
    if survey.spec.ndim != 2 or survey.wishes.get("spacing") or not sizes:
        return []
    low, high = min(min(s) for s in sizes.values()), max(max(s) for s in sizes.values())
    if high <= _ALIKE * low:
        return []
    largest = tuple(case for case, size in sizes.items() if max(size) == high)
    message = f"cells are {low:.3g} to {high:.3g} in size, planning accepts up to {_ALIKE} times"
    return [Finding("spacing", "error", largest, message, f"plan.spacing=[{high:.3g},{high:.3g}]")]


def _absolute(survey: Survey) -> list[Finding]:
    """Volumes whose voxels are of no size that a scanner has."""
    findings = []
    for facts in survey.readable:
        if facts.grid is None or facts.grid.frame != RAS_MM:
            continue
        size = facts.grid.spacing
        if min(size) < _SMALLEST_MM or max(size) > _LARGEST_MM:
            message = f"{facts.id}: voxels of {_short(size)} mm"
            fix = "fix the unit of its header (xyzt_units, or voxel sizes in m or micrometres)"
            findings.append(Finding("spacing", "warning", (facts.id,), message, fix))
    return findings


def _apart(size: Sequence[float], median: Sequence[float]) -> float:
    ratios = np.asarray(size) / np.asarray(median)
    return float(max(ratios.max(), 1 / ratios.min()))


def _short(values: Sequence[float]) -> str:
    return " x ".join(f"{v:.3g}" for v in values)
