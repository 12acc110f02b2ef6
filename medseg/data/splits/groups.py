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
    is_table = groups.lower().endswith(".csv")
    group_of = _groups_of_table(Path(groups)) if is_table else _groups_by_name(cases, groups)
    refuse(
        [c.id for c in cases if c.id not in group_of],
        f"case(s) without a group in data.groups={groups!r}",
        "add them to the table, or widen the expression",
    )
    return [replace(c, group=group_of.get(c.id, c.group)) for c in cases]


def _groups_by_name(cases: Sequence[Case], expression: str) -> dict[str, str]:
    """Group of each case whose id matches."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise InputError(
            f"data.groups={expression!r} is no regular expression ({error}); give one, or a .csv file"
        ) from error
    hits = {c.id: pattern.search(c.id) for c in cases}
    return {
        name: hit[1] if pattern.groups else hit[0]
        for name, hit in hits.items()
        if hit and (hit.lastindex or not pattern.groups)
    }


def _groups_of_table(path: Path) -> dict[str, str]:
    """Group of each case of a table."""
    rows = rows_of(path, f"data.groups={path}", ("case", "group"))
    return {row["case"]: row["group"] for row in rows if row["group"]}
