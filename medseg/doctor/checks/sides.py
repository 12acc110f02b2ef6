"""Sides: class names that differ in left and right only, and labels on the wrong side."""

from __future__ import annotations

from collections.abc import Sequence

from medseg.doctor.finding import Finding
from medseg.doctor.survey import CaseFacts, Survey
from medseg.geometry.grid import RAS_MM
from medseg.labels import LabelTable
from medseg.labels.laterality import laterality

_APART_MM = 5.0
"""Least distance of two centres at which one counts as further right."""


def undeclared_pairs(survey: Survey) -> list[Finding]:
    """Lateral names that the label table does not pair: images are then not mirrored across the body.

    Pairs are found by the names of classes. Left over are sides without a partner, and names that the dataset declares
    not to be pairs by an empty list of pairs.
    """
    table = survey.spec.labels
    sides = laterality(table.names)
    missing = [pair for pair in sides.pairs if pair not in table.paired_names]
    if missing:
        pairs = ", ".join(f"[{left}, {right}]" for left, right in [*table.paired_names, *missing])
        shown = ", ".join(f"{left!r} and {right!r}" for left, right in missing)
        message = f"classes {shown} are no declared left/right pair"
        return [Finding("sides", "warning", (), message, f"'data.pairs=[{pairs}]', or data.pairs=null to find them")]
    if sides.one_sided:
        message = (
            f"{', '.join(sides.one_sided)}: of one side, without a partner; images are not mirrored across the body"
        )
        return [Finding("sides", "note", (), message, "nothing, if the mirror image of the structure is no class")]
    return []


def swapped_sides(survey: Survey) -> list[Finding]:
    """Cases in which left structures are to the right of their right partners."""
    pairs = _pairs(survey.spec.labels)
    wrong: list[CaseFacts] = []
    right: list[CaseFacts] = []
    for facts in survey.cases:
        if offsets := _distances(facts, pairs):
            (wrong if sum(offsets) > 0 else right).append(facts)
    if not wrong:
        return []
    if len(wrong) > len(right) and len(wrong) > 1:
        message = f"in {len(wrong)} of {len(wrong) + len(right)} cases, left structures are on the patient's right"
        fix = "exchange the two names in the label table, or fix the orientation in the headers"
        return [Finding("sides", "warning", tuple(f.id for f in wrong), message, fix)]
    fix = "look at it on check.html; flip the label, exchange the two values in it, or fix the header's first axis"
    message = "left structures are on the patient's right"
    return [Finding("sides", "warning", (facts.id,), f"{facts.id}: {message}", fix) for facts in wrong]


def _pairs(table: LabelTable) -> list[tuple[int, int]]:
    """Left and right classes: those that the table declares, or else those that names suggest."""
    named = laterality(table.names).pairs
    return list(table.pairs) or [(table.names.index(left), table.names.index(right)) for left, right in named]


def _distances(facts: CaseFacts, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """``_distance`` of the pairs of one case that can be compared."""
    return [distance for pair in pairs if (distance := _distance(facts, pair)) is not None]


def _distance(facts: CaseFacts, pair: tuple[int, int]) -> float | None:
    """Millimetres by which the left structure is to the right of the right one; None if they can't be compared."""
    header = facts.header("label")
    if facts.label is None or facts.label.parts is None or header is None or header.grid is None:
        return None
    grid = header.grid
    if grid.frame != RAS_MM or any(facts.label.parts.get(side) is None for side in pair):
        return None
    left, right = (grid.to_world([facts.label.parts[side][0].centre])[0, 0] for side in pair)
    return float(left - right) if abs(left - right) >= _APART_MM else None
