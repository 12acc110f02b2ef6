"""Partial labels: which classes each case annotates, from a table, by patterns, or from a ``dataset.json``."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.case import Case, refuse
from medseg.data.splits.table import rows_of
from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.labels.annotated import annotated_names

Annotated = str | Mapping[str, Sequence[str]] | None
"""The path of a ``.csv`` file, or names of classes by patterns of cases or folders; None: all are annotated."""
JSON_KEY = "annotated_classes"
"""Key of a ``dataset.json`` that holds such a mapping."""


def with_annotated(
    cases: Sequence[Case],
    annotated: Annotated,
    labels: LabelTable,
    *,
    key: str = "data.annotated",
    further: Callable[[], Sequence[Case]] | None = None,
) -> list[Case]:
    """The cases with the classes that their labels annotate.

    A table names every labelled case. Patterns need not: a case that none matches annotates all classes. They match
    the name of a case, or of a folder that one of its files is in.

    Args:
        cases: The cases.
        annotated: See ``Annotated``.
        labels: The label table, whose classes (or regions, where it has some) are named.
        key: Of the configuration, for messages.
        further: Other cases that rows and patterns may be for; whether each is for a case is not checked without.

    Raises:
        InputError: A name that is no class, a case that annotates none, a table without a case or with a row of none, a
            pattern without a case, or two patterns that contradict each other.
    """
    if annotated is None:
        return list(cases)
    by_case: Mapping[str, Sequence[str]]
    if isinstance(annotated, str):
        by_case = _listed(cases, annotated, key, further)
    else:
        by_case = _by_pattern(cases, annotated, key, further)
    declared = {name: annotated_names(labels, names, f"{key}: case {name}") for name, names in by_case.items()}
    return [replace(case, annotated=declared.get(case.id)) if case.label is not None else case for case in cases]


def _listed(
    cases: Sequence[Case], path: str, key: str, further: Callable[[], Sequence[Case]] | None
) -> dict[str, list[str]]:
    """Names of classes by case, of a table that lists every labelled case, and no case that there is not."""
    listed = of_table(path, key)
    if further is not None:
        known = {case.id for case in (*cases, *further())}
        unknown = [name for name in listed if name not in known]
        refuse(unknown, f"row(s) of no case in {key}={path}", "remove them, or fix their names")
    refuse(
        [case.id for case in cases if case.label is not None and case.id not in listed],
        f"labelled case(s) that {key}={path} does not list",
        "add a row for each, with its classes",
    )
    return listed


def _by_pattern(
    cases: Sequence[Case], annotated: object, key: str, further: Callable[[], Sequence[Case]] | None
) -> dict[str, Sequence[str]]:
    """Names of classes by case, of labelled cases that a pattern matches."""
    patterns = _patterns(annotated, key)
    hits = {case.id: _matched(case, patterns, key) for case in cases if case.label is not None}
    if further is not None:
        _check_matched([*cases, *further()], patterns, key)
    return {name: names for name, names in hits.items() if names is not None}


def of_table(path: str, key: str) -> dict[str, list[str]]:
    """Names of classes by case, of a ``.csv`` file: ``case,classes`` (``a;b``), or columns of 0 and 1.

    Raises:
        InputError: No such file, no ``.csv`` file, other columns, several rows of a case, or a value that is neither 0
            nor 1.
    """
    if not path.lower().endswith(".csv"):
        raise InputError(f"{key}={path}: expected a .csv file, or class names by patterns: '{{site_a_*: [liver]}}'")
    rows = rows_of(Path(path), f"{key}={path}", ("case",))
    repeated = [name for name, n in Counter(row["case"] for row in rows).items() if n > 1]
    refuse(repeated, f"case(s) with several rows in {key}={path}", "keep one of each, with all of its classes")
    if any("classes" in row for row in rows):
        return {row["case"]: [n.strip() for n in row["classes"].split(";") if n.strip()] for row in rows}
    return {row["case"]: _ticked(row, path) for row in rows}


def _ticked(row: Mapping[str, str], path: str) -> list[str]:
    """The columns of a row that are 1."""
    columns = {name: value.strip() for name, value in row.items() if name not in (None, "case")}
    wrong = [name for name, value in columns.items() if value not in ("0", "1")]
    if wrong or not columns:
        got = f"{wrong[0]}={columns[wrong[0]]!r}" if wrong else "no further column"
        raise InputError(
            f"{path}: case {row['case']}: got {got}, expected a column 'classes', or 0 and 1 in a column for each class"
        )
    return [name for name, value in columns.items() if value == "1"]


def _patterns(annotated: object, key: str) -> dict[str, list[str]]:
    """Names by pattern, of a mapping that is one.

    Raises:
        InputError: It is not.
    """
    fine = isinstance(annotated, Mapping) and all(
        isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(n, str) for n in names)
        for names in annotated.values()
    )
    if not fine or not isinstance(annotated, Mapping):
        raise InputError(
            f"{key}: got {str(annotated)[:200]}, expected lists of class names by patterns of cases or folders: "
            "'{site_a_*: [liver], site_b_*: [spleen]}'"
        )
    return {str(pattern): list(names) for pattern, names in annotated.items()}


def _matched(case: Case, patterns: Mapping[str, Sequence[str]], key: str) -> Sequence[str] | None:
    """Names of the pattern that matches a case; None without one."""
    hits = [pattern for pattern in patterns if _matches(case, pattern)]
    if len({frozenset(patterns[pattern]) for pattern in hits}) > 1:
        raise InputError(
            f"{key}: case {case.id} matches {', '.join(map(repr, hits))}, which name different classes; expected one "
            "of them to match"
        )
    return patterns[hits[0]] if hits else None


def _matches(case: Case, pattern: str) -> bool:
    """Whether a pattern matches the name of a case, or of a folder that one of its files is in."""
    folders = {path.parent.name for path in case.files}
    return any(fnmatch.fnmatchcase(name, pattern) for name in (case.id, *folders))


def _check_matched(cases: Iterable[Case], patterns: Iterable[str], key: str) -> None:
    """Raise on a pattern that no case matches."""
    every = list(cases)
    if idle := [pattern for pattern in patterns if not any(_matches(case, pattern) for case in every)]:
        names = ", ".join(sorted(case.id for case in every)[:5])
        raise InputError(f"{key}: no case or folder is named {idle[0]!r}, cases are {names}; fix the pattern")


def check_all_annotated(cases: Sequence[Case], labels: LabelTable, key: str = "data.annotated") -> None:
    """Raise on a class that none of these cases annotates.

    Raises:
        InputError: There is one; names all such.
    """
    if any(case.annotated is None for case in cases):
        return
    annotated = frozenset[str]().union(*(case.annotated or () for case in cases))
    if cases and (absent := [name for name, _ in labels.targets if name not in annotated]):
        raise InputError(
            f"{key}: none of the {len(cases)} training cases annotates {', '.join(absent)}, expected one at least for "
            f"each class; add it to {key} of a case that has it, take it out of the label table, or split otherwise"
        )
