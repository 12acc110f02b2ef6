"""Labelled structures: none, tiny, far larger or smaller than elsewhere, in pieces; and how classes are balanced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medseg.doctor.contents import LabelFacts, Part
from medseg.doctor.finding import Finding, Severity
from medseg.doctor.survey import CaseFacts, Survey, declared_values
from medseg.geometry.grid import PIXEL, RAS_MM

_FEWEST = 6
"""Cases that a rule from the other cases needs."""
_ENOUGH = 8
"""Cases that show whether a structure is of a stable size."""
_APART = 8.0
"""Times the median volume from which on a structure of a stable size is suspect."""
_SPECK = 0.02
"""Share of its class below which a piece far away is a stray stroke."""
_MOSTLY, _WHOLE = 0.6, 0.9
"""Share of the cases with a class in one piece from which on a stray piece is noted, and of the others warned of;
in maps it is noted only."""
_STRAYS = 0.05
"""Share of the cases with stray pieces up to which they are warned of, one at least."""
_RARE = 1e-3
"""Share of all cells below which a class is rare."""


def cells_by_class(label: LabelFacts, survey: Survey) -> dict[int, int]:
    """Cells of each training index; those of other values and ignored ones left out."""
    declared = declared_values(survey.spec.labels)
    counts = dict.fromkeys(range(survey.spec.labels.n_classes), 0)
    for value, n in label.values.items():
        index = declared.get(round(value), -1)
        if index >= 0:
            counts[index] += n
    return counts


def _labelled(survey: Survey) -> list[tuple[CaseFacts, dict[int, int]]]:
    return [(f, cells_by_class(f.label, survey)) for f in survey.cases if f.label is not None]


def empty(survey: Survey) -> list[Finding]:
    """Labels without any foreground, or with nothing but ignored cells."""
    labelled = _fully_declared(survey)
    unknown = [case for case, counts in labelled.items() if not sum(counts.values())]
    bare = [case for case, counts in labelled.items() if not sum(counts[i] for i in _foreground(survey))]
    findings = [
        Finding(
            "empty label", "error", (case,), f"{case}: not one cell of its label has a declared class",
            "take the case out, or fix data.labels",
        )
        for case in unknown
    ]  # fmt: skip
    severity: Severity = "warning" if len(bare) <= max(1, len(labelled) // 5) else "note"
    fix = "nothing, if the structure is absent there; else label it, or take the case out"
    return findings + [
        Finding("empty label", severity, (case,), f"{case}: its label has no foreground", fix)
        for case in bare
        if case not in unknown
    ]


def _fully_declared(survey: Survey) -> dict[str, dict[int, int]]:
    """Cells of each class of the labels that hold declared values only; others have a finding already."""
    declared = declared_values(survey.spec.labels)
    return {
        facts.id: cells_by_class(facts.label, survey)
        for facts in survey.cases
        if facts.label is not None and all(round(value) in declared for value in facts.label.values)
    }


def sizes(survey: Survey) -> list[Finding]:
    """Structures whose volume is far from that of the other cases, where those agree; and single stray cells."""
    labelled = [(f, counts) for f, counts in _labelled(survey) if f.label is not None and f.label.parts is not None]
    findings: list[Finding] = []
    for index in _foreground(survey):
        volumes = {f.id: _volume(f, counts[index]) for f, counts in labelled if counts[index]}
        if len(volumes) >= _ENOUGH:
            findings += _of_other_size(survey.spec.labels.names[index], volumes)
    return findings


def _of_other_size(name: str, volumes: Mapping[str, float]) -> Iterator[Finding]:
    """Cases in which the volume of a class is far from the median, by the spread of the logarithms."""
    logs = np.log(list(volumes.values()))
    median, spread = float(np.median(logs)), 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    limit = max(np.log(_APART), 6 * spread)
    for (case, volume), log in zip(volumes.items(), logs, strict=True):
        if abs(log - median) > limit:
            times = np.exp(abs(log - median))
            kind = "smaller" if log < median else "larger"
            message = f"{case}: {name} of {volume:.4g} is {times:.3g} times {kind} than in the median case"
            fix = "look at it on check.html; correct the label, or take the case out"
            yield Finding("label size", "warning", (case,), message, fix)


def pieces(survey: Survey) -> list[Finding]:
    """Structures in one piece in most cases, but in one case with a small piece far away, or in many pieces."""
    labels = {f.id: f.label.parts for f in survey.cases if f.label is not None and f.label.parts is not None}
    findings: list[Finding] = []
    for index in _foreground(survey):
        parts = {case: of_label[index] for case, of_label in labels.items() if index in of_label}
        findings += _stray_pieces(survey, survey.spec.labels.names[index], parts)
    return findings


def _stray_pieces(survey: Survey, name: str, parts: Mapping[str, Sequence[Part]]) -> Iterator[Finding]:
    """Cases with a stray piece of a class; none where the class has several pieces in most cases."""
    single = sum(len(of_case) == 1 for of_case in parts.values())
    if len(parts) < _FEWEST or single < _MOSTLY * len(parts):
        return
    strays = {case: stray for case, of_case in parts.items() if (stray := _stray(of_case)) is not None}
    alone = single >= _WHOLE * (len(parts) - len(strays)) and len(strays) <= max(1, _STRAYS * len(parts))
    severity: Severity = "warning" if alone and not _map(survey) else "note"
    for case, stray in strays.items():
        message = (
            f"{case}: {name} in {len(parts[case])} pieces, one of {stray.cells} cell(s) is {stray.gap:.0f} cells from "
            "the largest"
        )
        fix = "look at it on check.html; delete the stray piece, or take the case out"
        yield Finding("label pieces", severity, (case,), message, fix)


def balance(survey: Survey) -> list[Finding]:
    """Classes that are rare over all cases."""
    totals = dict.fromkeys(range(survey.spec.labels.n_classes), 0)
    for _, counts in _labelled(survey):
        for index, n in counts.items():
            totals[index] += n
    every = sum(totals.values())
    rare = [i for i in _foreground(survey) if 0 < totals[i] < _RARE * every]
    return [
        Finding(
            "balance", "note", (), f"class {survey.spec.labels.names[i]!r} is {totals[i] / every:.2g} of all cells "
            f"({totals[i]})", "sampling=class sampling.class_balance_exponent=1 draws its patches more often",
        )
        for i in rare
    ]  # fmt: skip


def _foreground(survey: Survey) -> Iterator[int]:
    yield from range(int(survey.spec.labels.background), survey.spec.labels.n_classes)


def _map(survey: Survey) -> bool:
    """Whether the cases are scenes of a map, where labels consist of many pieces: fires, floods, fields."""
    grid = survey.readable[0].grid if survey.readable else None
    return grid is not None and grid.frame not in (PIXEL, RAS_MM)


def _volume(facts: CaseFacts, cells: int) -> float:
    """In the cube (square) of the grid's unit."""
    header = facts.header("label")
    grid = facts.grid if header is None or header.grid is None else header.grid
    return cells * float(np.prod(grid.spacing)) if grid is not None else float(cells)


def _stray(parts: Sequence[Part]) -> Part | None:
    """The furthest small piece, of pieces from the largest on; None if the structure is in one place."""
    away = [p for p in parts[1:] if p.gap >= 3 and (p.cells <= _SPECK * parts[0].cells or p.gap >= 8)]
    return max(away, key=lambda p: p.gap, default=None)
