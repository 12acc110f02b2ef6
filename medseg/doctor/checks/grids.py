"""Grids of the files of one case: whether they have the same cells at the same places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
    return [finding for facts in survey.cases for finding in _of_case(survey, facts)]


def _of_case(survey: Survey, facts: CaseFacts) -> Iterator[Finding]:
    first, *others = facts.headers
    if first.grid is None:
        return
    if first.grid.ndim != survey.spec.ndim:
        message = f"{first.path}: {first.grid.ndim} axes, expected {survey.spec.ndim}"
        yield Finding("grid", "error", (facts.id,), message, "choose data= for this kind of files")
        return
    for other in others:
        if other.grid is not None:
            yield from _compared(survey, _Pair(facts.id, first, other, first.grid, other.grid))


@dataclass(frozen=True)
class _Pair:
    """The first image of a case, and another of its files.

    Attributes:
        case: The case.
        first: Header of the image.
        other: Header of the other file.
        expected: Grid of the image.
        grid: Grid of the other file.
    """

    case: str
    first: Header
    other: Header
    expected: Grid
    grid: Grid

    @property
    def where(self) -> str:
        """How messages begin."""
        return f"{self.other.path}: does not lie on the grid of {self.first.path.name}"

    @property
    def maps(self) -> bool:
        """Whether both have a CRS."""
        return {PIXEL, RAS_MM}.isdisjoint({self.grid.frame, self.expected.frame})

    @property
    def takes_georeference(self) -> bool:
        """Whether the other file is a mask without a georeference, which takes that of the image."""
        return self.grid.shape == self.expected.shape and self.grid.frame == PIXEL and self.expected.frame != RAS_MM

    def offset(self) -> float:
        """Largest displacement of the cells, in cells; of two maps without regard to how their CRS is written."""
        same = Grid(self.grid.shape, self.grid.affine, self.expected.frame) if self.maps else self.grid
        return same.offset_from(self.expected)

    def finding(
        self, message: str, fix: str, *, severity: Severity = "error", check: str = "grid", repair: Repair | None = None
    ) -> Finding:
        """A finding of this pair."""
        return Finding(check, severity, (self.case,), message, fix, () if repair is None else (repair,))


def _compared(survey: Survey, pair: _Pair) -> Iterator[Finding]:
    """The finding for a file that is not on the grid of the image."""
    grid, expected, reading = pair.grid, pair.expected, survey.reading
    if pair.takes_georeference:
        return
    if pair.maps and not same_frame(grid.frame, expected.frame):
        yield _other_crs(pair, warped=reading.other_crs == "warp")
        return
    offset = pair.offset()
    if offset <= reading.grid_tolerance:
        return
    if pair.maps and reading.other_grid == "align":
        yield _aligned(pair, offset)
        return
    turn = None if pair.maps else _turn(grid, expected, reading.grid_tolerance)
    if turn is not None:
        yield _turned(pair, *turn)
    elif grid.shape != expected.shape:
        yield _other_shape(pair)
    else:
        yield _displaced(pair, offset)


def _other_crs(pair: _Pair, *, warped: bool) -> Finding:
    message = f"{pair.where}: its CRS is {crs_name(pair.grid.frame)}, expected {crs_name(pair.expected.frame)}"
    return pair.finding(message, "data.other_crs=warp", severity="note" if warped else "error")


def _aligned(pair: _Pair, offset: float) -> Finding:
    """The finding for a map on another grid, which is aligned to that of the first image when it is read."""
    if _JITTER < offset < np.inf and pair.other.role == "label":
        message = f"{pair.where}: of the same shape, and {offset:.3g} cells off; it is aligned as it is read"
        fix = "if only its georeference is wrong, copy that of the image (gdal_edit.py -a_ullr); else leave it"
        return pair.finding(message, fix, severity="warning")
    shapes = f"shape {pair.grid.shape}, expected {pair.expected.shape}"
    moved = shapes if np.isinf(offset) else f"{offset:.3g} cells off"
    how = "nearest cell" if pair.other.role != "image" else "linear"
    return pair.finding(f"{pair.where}: {moved}", f"none: it is aligned ({how}) as it is read", severity="note")


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


def _turned(pair: _Pair, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Finding:
    message = f"{pair.where}: the same cells in another order (axes {axes}, flipped {flips})"
    settings = {"axes": list(axes), "flips": list(flips), "like": str(pair.first.path)}
    repair = Repair("reorient", pair.other.path, settings)
    return pair.finding(message, "fix=true stores them in the image's order", check="axes", repair=repair)


def _other_shape(pair: _Pair) -> Finding:
    shape, expected, name = pair.grid.shape, pair.expected.shape, pair.other.path.name
    message, fix = f"{pair.where}: shape {shape}, expected {expected}", f"resample {name} onto {pair.first.path.name}"
    if sorted(shape) == sorted(expected):
        message += "; its axes seem to be exchanged, and its header does not say how"
        fix = f"export {name} again in the axis order of the image"
    return pair.finding(message, f"{fix}, or take the case out")


def _displaced(pair: _Pair, offset: float) -> Finding:
    if np.isinf(offset):
        frames = " and ".join(crs_name(grid.frame) for grid in (pair.grid, pair.expected))
        message = f"{pair.where}: {frames} have no common world"
        return pair.finding(message, "give both files a CRS (gdal_edit.py -a_srs), or neither")
    repair = Repair("geometry", pair.other.path, {"like": str(pair.first.path)})
    if offset <= _JITTER:
        message = f"{pair.where}: displaced by up to {offset:.2g} cells, as if rounded in the header"
        fix = f"data.grid_tolerance={_round_up(offset)}, or fix=true copies the image's geometry"
        return pair.finding(message, fix, check="direction", repair=repair)
    if _lost(pair.other) and not _lost(pair.first):
        message = f"{pair.where}: its header has lost its geometry (no sform, no qform)"
        return pair.finding(message, "fix=true copies the image's geometry", repair=repair)
    message = f"{pair.where}: displaced by up to {offset:.3g} cells"
    fix = f"if only the header is wrong, copy the image's geometry; else resample {pair.other.path.name} onto it"
    return pair.finding(message, fix)


def _lost(header: Header) -> bool:
    return header.forms is not None and header.forms.sform_code == header.forms.qform_code == 0


def _round_up(offset: float) -> str:
    digit = 10.0 ** (np.floor(np.log10(offset)) - 1)
    return f"{np.ceil(offset / digit) * digit:.6g}"
