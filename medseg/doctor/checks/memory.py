"""Memory: volumes that do not fit the memory of this machine once they are on the planned spacing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod

import numpy as np

from medseg.doctor.finding import Finding
from medseg.doctor.survey import Survey
from medseg.geometry.grid import Grid
from medseg.planning.rules import resampled_shape, target_spacing

_SHARE = 0.8
"""Fraction of the machine's memory that one case may take."""


def machine_gb() -> float:
    """Memory of this machine, in GB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def memory(survey: Survey) -> list[Finding]:
    """Volumes whose preparation and prediction need more memory than there is.

    A case takes its image twice (as stored, on the planned spacing) and the class scores twice, in float32.
    Scenes of any size are read in windows.
    """
    if survey.spec.ndim != 3:
        return []
    grids = {f.id: _canonical(f.grid) for f in survey.readable if f.grid is not None and f.grid.ndim == 3}
    if not grids:
        return []
    target, budget = _target(survey, list(grids.values())), float(survey.wishes.get("ram_gb") or machine_gb())
    findings = []
    for case, grid in grids.items():
        needed = _needed_gb(survey, grid, target)
        if needed > _SHARE * budget:
            message = (
                f"{case}: {' x '.join(map(str, grid.shape))} voxels need about {needed:.3g} GB at a spacing of "
                f"{' x '.join(f'{s:.3g}' for s in target)}, {budget:.3g} GB are there"
            )
            fix = f"plan.spacing={_coarser(target, needed / (_SHARE * budget))}, or crop the case"
            findings.append(Finding("memory", "warning", (case,), message, fix))
    return findings


def _target(survey: Survey, grids: Sequence[Grid]) -> tuple[float, ...]:
    """The spacing that a plan would choose, or the one that is wished."""
    if wish := survey.wishes.get("spacing"):
        return tuple(map(float, wish))
    return target_spacing([grid.spacing for grid in grids], [grid.shape for grid in grids]).spacing


def _needed_gb(survey: Survey, grid: Grid, target: tuple[float, ...]) -> float:
    """Memory of one case, in GB."""
    cells = prod(grid.shape) + prod(resampled_shape(grid.shape, grid.spacing, target))
    return 4e-9 * cells * (len(survey.spec.channels) + survey.spec.labels.n_outputs)


def _canonical(grid: Grid) -> Grid:
    return grid.reorient(*grid.canonical())


def _coarser(target: tuple[float, ...], times: float) -> str:
    factor = float(np.ceil(10 * times ** (1 / 3)) / 10)
    return "[" + ",".join(f"{s * factor:.3g}" for s in target) + "]"
