"""Headers: sform against qform, missing geometry, skewed axes, lost georeference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medseg.doctor.finding import Finding, Repair
from medseg.doctor.headers import Forms
from medseg.doctor.survey import Survey
from medseg.geometry.grid import PIXEL, RAS_MM, Grid

_SKEW = 1e-3
"""Cosine of the angle between two axes from which on they are not at right angles; headers round to 1e-6 or so."""
_APART = 0.1
"""Voxels between sform and qform; the qform is stored in fewer digits."""


def forms(survey: Survey) -> list[Finding]:
    """NIfTI files whose sform and qform say different things, or that have neither."""
    return [
        finding
        for facts in survey.cases
        for header in facts.headers
        if header.forms is not None and header.grid is not None
        for finding in _of_file(facts.id, header.path, header.forms, header.grid)
    ]


def _of_file(case: str, path: Path, forms: Forms, grid: Grid) -> Iterator[Finding]:
    """What is wrong with the transforms and voxel sizes of one header."""
    apart = forms.offset > _APART
    if apart:
        message = (
            f"{path}: sform and qform differ by up to {forms.offset:.3g} voxels; medseg reads the sform, other "
            "programs may read the qform"
        )
        fix = "fix=true writes the sform into the qform; look at the case on check.html first"
        yield Finding("sform and qform", "warning", (case,), message, fix, (Repair("qform", path),))
    if forms.sform_code == forms.qform_code == 0:
        message = f"{path}: neither sform nor qform is set, so orientation and sides are guessed"
        yield Finding("sform and qform", "warning", (case,), message, "convert it again from DICOM with its geometry")
    if forms.sform_code and not apart and _other_sizes(forms, grid):
        message = f"{path}: voxel sizes {_short(forms.zooms)}, but an affine with {_short(grid.spacing)}"
        yield Finding("sform and qform", "warning", (case,), message, "write the header again from its affine")


def _other_sizes(forms: Forms, grid: Grid) -> bool:
    """Whether the voxel sizes of a header are not those of its affine."""
    ratios = [size / spacing for size, spacing in zip(forms.zooms, grid.spacing, strict=False) if size > 0]
    return bool(ratios) and not 0.9 < min(ratios) <= max(ratios) < 1.1


def skew(survey: Survey) -> list[Finding]:
    """Volumes whose axes are not at right angles; resampling and distances take them as if they were."""
    findings = []
    for facts in survey.cases:
        grid = facts.grid
        if grid is None or grid.ndim != 3:
            continue
        worst = _skewed(grid)
        if worst > _SKEW:
            angle = float(np.degrees(np.arccos(np.clip(worst, 0, 1))))
            message = f"{facts.headers[0].path}: two of its axes meet at {angle:.4g} degrees, expected 90"
            fix = "resample it onto straight axes (gantry tilt: dcm2niix does so)"
            findings.append(Finding("skewed axes", "warning", (facts.id,), message, fix))
    return findings


def _skewed(grid: Grid) -> float:
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def georeference(survey: Survey) -> list[Finding]:
    """Scenes without a CRS among scenes that have one."""
    frames = {facts.id: facts.grid.frame for facts in survey.readable if facts.grid is not None}
    bare = [case for case, frame in frames.items() if frame == PIXEL]
    if not bare or len(bare) * 2 > len(frames):
        return []
    like = next(f.headers[0].path for f in survey.readable if frames[f.id] not in (PIXEL, RAS_MM))
    return [
        Finding(
            "georeference", "warning", (case,), f"{case}: no CRS, which {len(frames) - len(bare)} other cases have",
            f"gdal_edit.py -a_srs ... -a_ullr ... on its image, as {like.name} has them",
        )
        for case in bare
    ]  # fmt: skip


def _short(values: tuple[float, ...]) -> str:
    return " x ".join(f"{v:.3g}" for v in values)
