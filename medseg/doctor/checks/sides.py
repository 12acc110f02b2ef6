"""Sides: class names that differ in left and right only, and labels that lie on the wrong side."""

from __future__ import annotations

from medseg.doctor.finding import Finding
from medseg.doctor.survey import CaseFacts, Survey
from medseg.geometry.grid import RAS_MM
from medseg.labels.laterality import laterality

_APART_MM = 5.0
"""Distance of two centres from which on it is said which lies further right."""


def undeclared_pairs(survey: Survey) -> list[Finding]:
    """Lateral names that the label table does not pair: images are then not mirrored across the body.

    Pairs are found by the names of classes; what is left are sides without a partner, and names of which the dataset
    says, by an empty list of pairs, that they are none.
    """
    table = survey.spec.labels
    found = laterality(table.names)
    missing = [pair for pair in found.pairs if pair not in table.paired_names]
    if missing:
        pairs = ", ".join(f"[{left}, {right}]" for left, right in [*table.paired_names, *missing])
        shown = ", ".join(f"{left!r} and {right!r}" for left, right in missing)
        message = f"classes {shown} are no declared left/right pair"
        return [Finding("sides", "warning", (), message, f"'data.pairs=[{pairs}]', or data.pairs=null to find them")]
    if found.one_sided:
        message = (
            f"{', '.join(found.one_sided)}: of one side, without a partner; images are not mirrored across the body"
        )
        return [Finding("sides", "note", (), message, "nothing, if the mirror image of the structure is no class")]
    return []


def swapped_sides(survey: Survey) -> list[Finding]:
    """Cases in which left structures lie to the right of their right partners."""
    table = survey.spec.labels
    pairs = list(table.pairs) or [
        (table.names.index(left), table.names.index(right)) for left, right in laterality(table.names).pairs
    ]
    wrong, right = [], []
    for facts in survey.cases:
        sides = [side for pair in pairs if (side := _distance(facts, pair)) is not None]
        if sides:
            (wrong if sum(sides) > 0 else right).append(facts)
    if not wrong:
        return []
    fix = "look at it on check.html; flip the label, exchange the two values in it, or fix the header's first axis"
    if len(wrong) > len(right) and len(wrong) > 1:
        message = f"in {len(wrong)} of {len(wrong) + len(right)} cases, left structures lie on the patient's right"
        fix = "exchange the two names in the label table, or fix the orientation in the headers"
        return [Finding("sides", "warning", tuple(f.id for f in wrong), message, fix)]
    message = "left structures lie on the patient's right"
    return [Finding("sides", "warning", (facts.id,), f"{facts.id}: {message}", fix) for facts in wrong]


def _distance(facts: CaseFacts, pair: tuple[int, int]) -> float | None:
    """Millimetres that the left structure lies to the right of the right one; None if that can't be said."""
    header = facts.header("label")
    if facts.label is None or facts.label.parts is None or header is None or header.grid is None:
        return None
    grid = header.grid
    if grid.frame != RAS_MM or any(facts.label.parts.get(side) is None for side in pair):
        return None
    left, right = (grid.to_world([facts.label.parts[side][0].centre])[0, 0] for side in pair)
    return float(left - right) if abs(left - right) >= _APART_MM else None
