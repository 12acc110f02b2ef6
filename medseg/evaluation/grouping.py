"""Groups of cases that scores are split by: columns of a table, or intervals of their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medseg.data.case import refuse
from medseg.data.layout.case_table import CaseTable
from medseg.errors import InputError
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.subgroups import subgroups

By = Sequence[str] | Mapping[str, Sequence[float] | None] | None
"""Names of columns; or edges by column, None where the cells themselves are groups."""
_MISSING = "missing"
_MOST = 20
"""Groups of a column at most: more values are measurements, not groups."""


@dataclass(frozen=True)
class Grouping:
    """Columns of a table that scores are split by.

    Attributes:
        table: The table.
        columns: Edges of intervals by column, each of which begins with its edge; None where cells are groups.
    """

    table: CaseTable
    columns: Mapping[str, Sequence[float] | None]

    @classmethod
    def of(cls, table: CaseTable, by: Sequence[str] | Mapping[str, Sequence[float] | None]) -> Grouping:
        """Of the value of ``by``.

        Raises:
            InputError: No such column, or edges that do not rise.
        """
        columns = dict(by) if isinstance(by, Mapping) else {str(name): None for name in by}
        table.check_columns(list(columns), "by")
        for column, edges in columns.items():
            if edges is not None and not (len(edges) and all(low < high for low, high in pairwise(edges))):
                raise InputError(f"by.{column}={list(edges)}: expected edges in rising order, such as [40, 60]")
        return cls(table, columns)

    def groups(self, cases: Sequence[str]) -> dict[str, dict[str, str]]:
        """By column, the group of each case, in the order of words or numbers; ``missing`` where its cell is empty.

        Raises:
            InputError: A case without a row, a cell that is no number, or too many groups.
        """
        return {column: self._column(column, edges, cases) for column, edges in self.columns.items()}

    def scores(self, scores: CaseScores) -> dict[str, Any]:
        """The entry ``subgroups`` of ``metrics.json``; errors are those of ``groups``."""
        return {"subgroups": subgroups(scores, self.groups(scores.cases))}

    def _column(self, column: str, edges: Sequence[float] | None, cases: Sequence[str]) -> dict[str, str]:
        cells = cells_of(self.table, column, cases)
        if edges is not None:
            numbers = {case: _number(cell, f"by.{column}: case {case}") for case, cell in cells.items()}
            order = sorted(numbers, key=lambda case: numbers[case])
            return {case: _interval(numbers[case], edges) for case in order}
        values = set(cells.values())
        if len(values) > _MOST:
            raise InputError(
                f"by={column}: got {len(values)} values in {len(cells)} cases, expected {_MOST} groups at most; of "
                f"numbers give edges, 'by={{{column}: [40, 60]}}'"
            )
        return {case: cells[case] or _MISSING for case in sorted(cells, key=lambda case: cells[case])}


def cells_of(table: CaseTable, column: str, cases: Sequence[str]) -> dict[str, str]:
    """The cell of each case; rows of other cases are ignored.

    Raises:
        InputError: Cases without a row.
    """
    where = f"{table.setting}={table.path}"
    refuse(
        [case for case in cases if case not in table.rows], f"case(s) without a row in {where}", "add a row for each"
    )
    return {case: table.rows[case][column] for case in cases}


def grouping(table: str | Path | None, key: str | None, by: By, setting: str = "table") -> Grouping | None:
    """What scores are split by, if anything.

    Args:
        table: File of the table.
        key: Its column of cases; None for ``case``.
        by: See ``By``.
        setting: Key of the configuration that names the table, for messages.

    Raises:
        InputError: ``by`` without a table, or what ``CaseTable.read`` and ``Grouping.of`` refuse.
    """
    if not by:
        return None
    if table is None:
        names = ", ".join(by)
        raise InputError(f"by={names}: names columns of a table of cases, and there is none; add {setting}=cases.csv")
    return Grouping.of(CaseTable.read(Path(table), setting, key), by)


def _number(cell: str, place: str) -> float:
    """The number in a cell; infinity in an empty one, which is listed last."""
    try:
        return float(cell or math.inf)
    except ValueError:
        raise InputError(f"{place} has {cell!r}, expected a number; leave the edges out for groups of words") from None


def _interval(value: float, edges: Sequence[float]) -> str:
    """The interval that a number is in.

    Example:
        >>> [_interval(value, [40, 60]) for value in (39.5, 40, 60, math.inf)]
        ['below 40', '40 to 60', '60 and above', 'missing']
    """
    if not math.isfinite(value):
        return _MISSING
    below = sum(edge <= value for edge in edges)
    if not below:
        return f"below {edges[0]:g}"
    return f"{edges[-1]:g} and above" if below == len(edges) else f"{edges[below - 1]:g} to {edges[below]:g}"
