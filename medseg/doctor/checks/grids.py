"""Grids of the files of one case: whether they have the same cells at the same places."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from medseg.doctor.finding import Finding, Repair, Severity
from medseg.doctor.headers import Header
from medseg.doctor.survey import CaseFacts, Survey
from medseg.formats.georeference import crs_name, same_frame
from medseg.geometry.grid import PIXEL, RAS_MM, Grid

_JITTER = 0.5
"""Cells up to which a displacement is taken for rounding of the header, not for another place."""


def grids(survey: Survey) -> list[Finding]:
    """Files of a case whose grid is not that of its first image."""
    findings = []
    for facts in survey.cases:
        first, *others = facts.headers
        if first.grid is None:
            continue
        if first.grid.ndim != survey.spec.ndim:
            message = f"{first.path}: {first.grid.ndim} axes, expected {survey.spec.ndim}"
            findings.append(Finding("grid", "error", (facts.id,), message, "choose data= for this kind of files"))
            continue
        findings += [f for other in others if other.grid is not None for f in _compared(survey, facts, first, other)]
    return findings


def _compared(survey: Survey, facts: CaseFacts, first: Header, other: Header) -> list[Finding]:
    grid, reference = other.grid, first.grid
    if grid is None or reference is None:
        return []
    if grid.shape == reference.shape and grid.frame == PIXEL and reference.frame != RAS_MM:
        return []  # a mask without a georeference takes that of the image
    where = f"{other.path}: does not lie on the grid of {first.path.name}"
    maps = {PIXEL, RAS_MM}.isdisjoint({grid.frame, reference.frame})
    if maps and not same_frame(grid.frame, reference.frame):
        message = f"{where}: its CRS is {crs_name(grid.frame)}, expected {crs_name(reference.frame)}"
        severity: Severity = "note" if survey.reading.other_crs == "warp" else "error"
        return [Finding("grid", severity, (facts.id,), message, "data.other_crs=warp")]
    same = Grid(grid.shape, grid.affine, reference.frame) if maps else grid
    offset = same.offset_from(reference)
    if offset <= survey.reading.grid_tolerance:
        return []
    if maps and survey.reading.other_grid == "align":
        return [_aligned(facts, first, other, where, offset)]
    turned = None if maps else _turn(same, reference, survey.reading.grid_tolerance)
    if turned is not None:
        axes, flips = turned
        message = f"{where}: the same cells in another order (axes {axes}, flipped {flips})"
        repair = Repair("reorient", other.path, {"axes": list(axes), "flips": list(flips), "like": str(first.path)})
        return [Finding("axes", "error", (facts.id,), message, "fix=true stores them in the image's order", (repair,))]
    if grid.shape != reference.shape:
        return [_other_shape(facts, first, other, where)]
    return [_displaced(facts, first, other, where, offset)]


def _aligned(facts: CaseFacts, first: Header, other: Header, where: str, offset: float) -> Finding:
    """The finding for a map on another grid, which is aligned to that of the first image when it is read."""
    if _JITTER < offset < np.inf and other.role == "label":
        message = f"{where}: of the same shape, and {offset:.3g} cells off; it is aligned as it is read"
        fix = "if only its georeference is wrong, copy that of the image (gdal_edit.py -a_ullr); else leave it"
        return Finding("grid", "warning", (facts.id,), message, fix)
    shapes = [None if header.grid is None else header.grid.shape for header in (other, first)]
    moved = f"shape {shapes[0]}, expected {shapes[1]}" if np.isinf(offset) else f"{offset:.3g} cells off"
    how = "nearest cell" if other.role != "image" else "linear"
    return Finding("grid", "note", (facts.id,), f"{where}: {moved}", f"none: it is aligned ({how}) as it is read")


def _turn(grid: Grid, reference: Grid, tolerance: float) -> tuple[tuple[int, ...], tuple[bool, ...]] | None:
    """Axes and flips by which the grid becomes the reference, cell for cell; None if none do."""
    if grid.frame != reference.frame:
        return None
    for axes in permutations(range(grid.ndim)):
        if tuple(grid.shape[a] for a in axes) != reference.shape:
            continue
        for flips in product((False, True), repeat=grid.ndim):
            if grid.reorient(axes, flips).offset_from(reference) <= tolerance:
                return axes, flips
    return None


def _other_shape(facts: CaseFacts, first: Header, other: Header, where: str) -> Finding:
    shape, expected = other.grid.shape, first.grid.shape  # type: ignore[union-attr]
    message, fix = f"{where}: shape {shape}, expected {expected}", f"resample {other.path.name} onto {first.path.name}"
    if sorted(shape) == sorted(expected):
        message += "; its axes seem to be exchanged, and its header does not say how"
        fix = f"export {other.path.name} again in the axis order of the image"
    return Finding("grid", "error", (facts.id,), message, f"{fix}, or take the case out")


def _displaced(facts: CaseFacts, first: Header, other: Header, where: str, offset: float) -> Finding:
    frames = (other.grid.frame, first.grid.frame)  # type: ignore[union-attr]
    if np.isinf(offset):
        message = f"{where}: {' and '.join(crs_name(f) for f in frames)} have no common world"
        return Finding("grid", "error", (facts.id,), message, "give both files a CRS (gdal_edit.py -a_srs), or neither")
    repair = Repair("geometry", other.path, {"like": str(first.path)})
    if offset <= _JITTER:
        tolerance = f"data.grid_tolerance={_round_up(offset)}"
        message = f"{where}: displaced by up to {offset:.2g} cells, as if rounded in the header"
        fix = f"{tolerance}, or fix=true copies the image's geometry"
        return Finding("direction", "error", (facts.id,), message, fix, (repair,))
    if _lost(other) and not _lost(first):
        message = f"{where}: its header has lost its geometry (no sform, no qform)"
        return Finding("grid", "error", (facts.id,), message, "fix=true copies the image's geometry", (repair,))
    message = f"{where}: displaced by up to {offset:.3g} cells"
    fix = f"if only the header is wrong, copy the image's geometry; else resample {other.path.name} onto it"
    return Finding("grid", "error", (facts.id,), message, fix)


def _lost(header: Header) -> bool:
    return header.forms is not None and header.forms.sform_code == header.forms.qform_code == 0


def _round_up(offset: float) -> str:
    digit = 10.0 ** (np.floor(np.log10(offset)) - 1)
    return f"{np.ceil(offset / digit) * digit:.6g}"
