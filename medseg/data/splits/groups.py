"""Groups of cases that splits keep together, such as patients, by a table or by names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.case import Case, refuse
from medseg.data.splits.table import rows_of
from medseg.errors import InputError


def grouped(cases: Sequence[Case], groups: str | None) -> list[Case]:
    r"""The cases with their groups set (patient, site, scanner).

    Args:
        cases: The cases.
        groups: Either the path of a ``.csv`` file with the columns ``case`` and ``group``, or a regular
            expression searched in each case id, whose first bracketed group (or, without one, the match) is the group.
            None for no change.

    Raises:
        InputError: A case without a group, an invalid expression, or a table without these columns.

    Example:
        >>> visits = [Case(f"p1_visit{i}", (), None, f"p1_visit{i}") for i in (1, 2)]
        >>> {c.group for c in grouped(visits, r"(p\d+)_")}
        {'p1'}
    """
    if groups is None:
        return list(cases)
    group_of = words_of(cases, groups, "data.groups", column="group", kind="group")
    return [replace(c, group=group_of.get(c.id, c.group)) for c in cases]


def words_of(cases: Sequence[Case], source: str, key: str, *, column: str, kind: str) -> dict[str, str]:
    """A word for each case, such as its group or its site.

    Args:
        cases: The cases.
        source: The path of a ``.csv`` file with the columns ``case`` and ``column``, or of another column
            (``FILE.csv:site``); or a regular expression as in ``grouped``.
        key: Of the configuration, for messages.
        column: Column of the table.
        kind: What a word is, for messages.

    Raises:
        InputError: A case without a word, an invalid expression, or a table without these columns.
    """
    table, _, named = source.rpartition(":")
    if table.lower().endswith(".csv"):
        words = _words_of_table(Path(table), key, named)
    elif source.lower().endswith(".csv"):
        words = _words_of_table(Path(source), key, column)
    else:
        words = _words_by_name(cases, source, key)
    refuse(
        [c.id for c in cases if c.id not in words],
        f"case(s) without a {kind} in {key}={source!r}",
        "add them to the table, or widen the expression",
    )
    return words


def _words_by_name(cases: Sequence[Case], expression: str, key: str) -> dict[str, str]:
    """Word of each case whose id matches."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InputError(
            f"{key}={expression!r} is no regular expression ({error}); give one, or a .csv file"
        ) from error
    hits = {c.id: pattern.search(c.id) for c in cases}
    return {
        name: hit[1] if pattern.groups else hit[0]
        for name, hit in hits.items()
        if hit and (hit.lastindex or not pattern.groups)
    }


def _words_of_table(path: Path, key: str, column: str) -> dict[str, str]:
    """Word of each case of a table that has one."""
    rows = rows_of(path, f"{key}={path}", ("case", column))
    return {row["case"]: row[column] for row in rows if row[column]}
