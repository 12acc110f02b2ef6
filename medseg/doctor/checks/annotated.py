"""Partial labels: classes that no case annotates, label files with other classes than their case annotates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from medseg.doctor.finding import Finding
from medseg.doctor.survey import CaseFacts, Survey, declared_values
from medseg.labels import LabelTable
from medseg.labels.annotated import annotated_outputs, unexpected_classes

_CHECK = "annotated classes"


def nobody(survey: Survey) -> list[Finding]:
    """Classes that no labelled training case annotates."""
    own = [facts.case.annotated for facts in survey.cases if facts.case.label is not None and not facts.test]
    if not own or None in own:
        return []
    annotated = frozenset[str]().union(*(names for names in own if names))
    return [
        Finding(
            _CHECK, "error", (), f"class {name!r} is annotated in none of {len(own)} labelled cases",
            "take it out of the label table, or add it to data.annotated",
        )
        for name, _ in survey.spec.labels.targets
        if name not in annotated
    ]  # fmt: skip


def contradictions(survey: Survey) -> list[Finding]:
    """Labels that hold a class which their case does not annotate."""
    declared = declared_values(survey.spec.labels)
    return [finding for facts in survey.cases for finding in _of_case(facts, survey.spec.labels, declared)]


def _of_case(facts: CaseFacts, table: LabelTable, declared: Mapping[int, int]) -> Iterator[Finding]:
    """What the label of one case contradicts."""
    names = facts.case.annotated
    if names is None or facts.label is None:
        return
    cells = _cells(facts, table, declared)
    for index in np.flatnonzero(unexpected_classes(table, annotated_outputs(table, names)) & (cells > 0)):
        message = (
            f"{facts.case.label}: {cells[index]} cells of {table.titles[index]}, which the case does not annotate "
            f"(annotated: {', '.join(sorted(names))})"
        )
        fix = "add the class to data.annotated (annotated_classes in dataset.json), or take it out of the file"
        yield Finding(_CHECK, "error", (facts.id,), message, fix)


def never_present(survey: Survey) -> list[Finding]:
    """Classes that cases say they annotate, and that none of these has."""
    table, declared = survey.spec.labels, declared_values(survey.spec.labels)
    partial = [facts for facts in survey.cases if facts.case.annotated is not None and facts.label is not None]
    findings = []
    for name, members in table.targets:
        own = [facts for facts in partial if name in (facts.case.annotated or ())]
        if own and not any(_cells(facts, table, declared)[list(members)].any() for facts in own):
            message = f"class {name!r} is annotated in {len(own)} cases, and in none of their labels"
            fix = "nothing, if these cases have none of it; else fix data.annotated"
            findings.append(Finding(_CHECK, "note", tuple(facts.id for facts in own), message, fix))
    return findings


def _cells(facts: CaseFacts, table: LabelTable, declared: Mapping[int, int]) -> np.ndarray:
    """Cells of each class in the label of a case."""
    cells = np.zeros(table.n_classes, dtype=np.int64)
    for value, count in facts.label.values.items() if facts.label else ():
        index = declared.get(int(value), -1) if value == int(value) else -1
        if index >= 0:
            cells[index] += count
    return cells
