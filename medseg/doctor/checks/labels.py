"""Label values: outside the table, 0 and 255, floats near integers; with the table or remap that would fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from medseg.doctor.finding import Finding, Repair
from medseg.doctor.survey import CaseFacts, Survey, declared_values
from medseg.labels import LabelClass, LabelTable

_NEAR = 0.05
"""Distance from a whole number up to which a float label is taken for a rounding error."""
_SHOWN = 8


def values(survey: Survey) -> list[Finding]:
    """Labels that hold values outside the label table, NaN, or numbers that are not whole."""
    declared, suggestion = declared_values(survey.spec.labels), suggested(survey)
    return [finding for facts in survey.cases for finding in _of_label(survey, facts, declared, suggestion)]


def _of_label(survey: Survey, facts: CaseFacts, declared: Mapping[int, int], suggestion: str) -> Iterator[Finding]:
    """What is wrong with the values of one label."""
    label, path = facts.label, facts.case.label
    if label is None or path is None:
        return
    if label.nonfinite:
        message = f"{path}: {label.nonfinite} NaN or infinite cell(s) in a label"
        yield Finding("label values", "error", (facts.id,), message, "export the label again as integers")
    broken, whole = _by_wholeness(label.values)
    if broken:
        yield _broken(facts, path, broken, declared)
    unknown = {v: n for v, n in whole.items() if v not in declared}
    if unknown and not _mixed(broken):
        yield _unknown(survey, facts, whole, unknown, suggestion)


def _by_wholeness(counts: Mapping[float, int]) -> tuple[dict[float, int], dict[int, int]]:
    """Cells of the values that are no whole numbers, and of those that are."""
    broken = {v: n for v, n in counts.items() if v != round(v)}
    return broken, {int(v): n for v, n in counts.items() if v not in broken}


def _mixed(broken: Mapping[float, int]) -> bool:
    """Whether a label was interpolated: then its values say nothing about the table."""
    return any(abs(v - round(v)) > _NEAR for v in broken)


def _broken(facts: CaseFacts, path: Path, broken: Mapping[float, int], declared: Mapping[int, int]) -> Finding:
    count = sum(broken.values())
    if not _mixed(broken) and all(round(v) in declared for v in broken):
        message = f"{path}: {count} cell(s) near whole numbers, such as {_shown(broken)} (value: cells)"
        repair = Repair("round", path)
        return Finding("label values", "error", (facts.id,), message, "fix=true rounds them", (repair,))
    message = (
        f"{path}: {count} cell(s) between whole numbers, such as {_shown(broken)} (value: cells), as after "
        "a linear interpolation"
    )
    return Finding(
        "label values", "error", (facts.id,), message, "resample the original label with the nearest neighbour"
    )


def _unknown(
    survey: Survey, facts: CaseFacts, whole: Mapping[int, int], unknown: Mapping[int, int], suggestion: str
) -> Finding:
    table = survey.spec.labels
    message = (
        f"{facts.case.label}: values {_shown(unknown)} (value: cells) are not in the label table "
        f"{ {c.name: list(c.values) for c in table.classes} }; all of it: {_shown(whole)}"
    )
    remap = _binary(table, whole, unknown)
    if remap and facts.case.label is not None and sum(_seen(survey).get(v, 0) for v in unknown) == len(unknown):
        (value,), (name,) = remap.values(), [table.classes[1].name]
        repair = Repair("remap", facts.case.label, {"values": {str(v): new for v, new in remap.items()}})
        fix = f"fix=true writes {value} ({name}) for {', '.join(map(str, remap))} in it"
        return Finding("label values", "error", (facts.id,), message, fix, (repair,))
    return Finding("label values", "error", (facts.id,), message, suggestion)


def _binary(table: LabelTable, whole: Mapping[int, int], unknown: Mapping[int, int]) -> dict[int, int]:
    """The remap of a mask whose only other value is the background; empty for other masks."""
    background, *rest = table.classes
    if not table.background or len(rest) != 1 or len(unknown) != 1 or set(whole) - set(unknown) - {*background.values}:
        return {}
    return {next(iter(unknown)): rest[0].values[0]}


def _seen(survey: Survey) -> Counter[int]:
    """Number of cases that hold each whole value."""
    labels = [facts.label for facts in survey.cases if facts.label is not None]
    return Counter(int(v) for label in labels for v in label.values if v == round(v))


def suggested(survey: Survey) -> str:
    """The setting that declares the values of the files: a class that never occurs gets a value that is not declared.

    The lowest value goes to the first class, and so on; 255 becomes ``ignore`` where no class is left for it.
    """
    table, seen = survey.spec.labels, _seen(survey)
    unknown = sorted(set(seen) - set(declared_values(table)))
    entries: dict[str, list[int]] = {c.name: list(c.values) for c in table.classes}
    free = [c.name for c in table.classes if _absent(c, seen)]
    ignore = list(table.ignore_values)
    for value in unknown:
        if free and (len(free) == len(unknown) or len(unknown) == 1):
            entries[free.pop(0)] = [value]
        elif value in (255, -1, 65535):
            ignore.append(value)
        else:
            entries[f"class_{value}"] = [value]
    if ignore:
        entries["ignore"] = ignore
    return _key(survey, entries)


def _absent(declared: LabelClass, seen: Container[int]) -> bool:
    """Whether no case has a value of this class."""
    return not any(value in seen for value in declared.values)


def _key(survey: Survey, entries: Mapping[str, Sequence[int]]) -> str:
    if survey.labels_in != "data.labels":
        entries_json = ", ".join(f'"{n}": {v[0] if len(v) == 1 else list(v)}' for n, v in entries.items())
        return f'in {survey.labels_in}: "labels": {{{entries_json}}}'
    listed = ", ".join(f"{n}: {v[0] if len(v) == 1 else list(v)}" for n, v in entries.items())
    return f"'data.labels={{{listed}}}'"


def unseen(survey: Survey) -> list[Finding]:
    """Classes that occur in no case."""
    seen = _seen(survey)
    if not seen:
        return []
    absent = [c for c in survey.spec.labels.classes if _absent(c, seen)]
    total = sum(1 for facts in survey.cases if facts.label is not None)
    return [
        Finding(
            "label values", "warning", (), f"class {c.name!r} (value {list(c.values)}) is in none of {total} labels",
            f"take it out of the table, or fix its value: {suggested(survey)}",
        )
        for c in absent
    ]  # fmt: skip


def _shown(counts: Mapping[int, int] | Mapping[float, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]
    more = f" and {len(counts) - len(most)} more" if len(counts) > len(most) else ""
    return ", ".join(f"{np.float64(v):.6g}: {n}" for v, n in most) + more
