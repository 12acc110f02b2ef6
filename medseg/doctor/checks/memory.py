"""Memory: volumes that do not fit the memory of this machine once they are on the planned spacing."""

from __future__ import annotations

import os
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
    grids = {f.id: f.grid for f in survey.readable if f.grid is not None and f.grid.ndim == 3}
    if survey.spec.ndim != 3 or not grids:
        return []
    turned = {case: _canonical(grid) for case, grid in grids.items()}
    spacings, shapes = [g.spacing for g in turned.values()], [g.shape for g in turned.values()]
    wish = survey.wishes.get("spacing")
    target = tuple(map(float, wish)) if wish else target_spacing(spacings, shapes).spacing
    budget = float(survey.wishes.get("ram_gb") or machine_gb())
    findings = []
    for case, grid in turned.items():
        cells = prod(grid.shape) + prod(resampled_shape(grid.shape, grid.spacing, target))
        needed = 4e-9 * cells * (len(survey.spec.channels) + survey.spec.labels.n_outputs)
        if needed > _SHARE * budget:
            message = (
                f"{case}: {' x '.join(map(str, grid.shape))} voxels need about {needed:.3g} GB at a spacing of "
                f"{' x '.join(f'{s:.3g}' for s in target)}, {budget:.3g} GB are there"
            )
            fix = f"plan.spacing={_coarser(target, needed / (_SHARE * budget))}, or crop the case"
            findings.append(Finding("memory", "warning", (case,), message, fix))
    return findings


def _canonical(grid: Grid) -> Grid:
    return grid.reorient(*grid.canonical())


def _coarser(target: tuple[float, ...], times: float) -> str:
    factor = float(np.ceil(10 * times ** (1 / 3)) / 10)
    return "[" + ",".join(f"{s * factor:.3g}" for s in target) + "]"
