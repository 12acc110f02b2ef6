"""CaseTable: facts of cases in a ``.csv`` file, a row for each case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import Case, refuse
from medseg.data.splits.table import read_table
from medseg.errors import InputError, nearest
from medseg.facts import CaseFacts, Fact, check_kind

_KEY = "case"


@dataclass(frozen=True)
class CaseTable:
    """Rows of a table by case.

    Attributes:
        path: The file.
        setting: Key of the configuration that names it.
        columns: Names of its columns without that of the cases.
        rows: Cells by column, of each case.
    """

    path: Path
    setting: str
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, path: Path, setting: str = "data.table", key: str | None = None) -> CaseTable:
        """Read a table.

        Args:
            path: The file, see ``read_table``.
            setting: Key of the configuration that names it, for messages.
            key: Column with the names of the cases; None for ``case``.

        Raises:
            InputError: No such file or column, columns of one name, a row without a case, or several of one case.
        """
        key = key or _KEY
        named = f"{setting}={path}"
        names, rows = read_table(path, named, f"{key} and a column for each fact")
        _check_names(names, key, named, setting)
        cases = [row[key] for row in rows]
        if "" in cases:
            raise InputError(f"{named}: a row has no {key}; fill it, or remove the row")
        refuse(_repeated(cases), f"case(s) with several rows in {named}", "keep one of each")
        columns = tuple(name for name in names if name != key)
        return cls(path, setting, columns, {row[key]: row for row in rows})

    def check_cases(self, cases: Sequence[Case], *, extra: bool = True) -> None:
        """Raise if cases have no row, or with ``extra`` if rows are of no case.

        Raises:
            InputError: Names the first five.
        """
        names = {case.id for case in cases}
        where = f"{self.setting}={self.path}"
        without = [case.id for case in cases if case.id not in self.rows]
        refuse(without, f"case(s) without a row in {where}", "add a row for each; its cells may be empty")
        if extra:
            unknown = [case for case in self.rows if case not in names]
            refuse(unknown, f"row(s) of no case in {where}", "remove them, or fix their names")

    def check_columns(self, names: Sequence[str], key: str) -> None:
        """Raise if the table lacks columns.

        Args:
            names: Columns that are needed.
            key: That names them, for messages.

        Raises:
            InputError: Names those that are missing.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            hint = nearest(missing[0], self.columns) if self.columns else "it has none"
            raise InputError(f"{key}: {self.path} has no column {', '.join(missing)}; {hint}")

    def column(self, name: str) -> dict[str, str]:
        """The cells of a column by case."""
        return {case: row[name] for case, row in self.rows.items()}

    def facts_of(self, case: str, facts: tuple[Fact, ...], label: Fact | None = None) -> CaseFacts:
        """The facts of a case; missing ones where it has no row."""
        row = self.rows.get(case, {})
        texts = tuple(row.get(fact.name, "") for fact in facts)
        return CaseFacts(facts, texts, label, row.get(label.name, "") if label else "")

    def check_values(self, facts: Sequence[Fact]) -> list[str]:
        """A warning for each fact of which cases have values that no training case has.

        Raises:
            InputError: A column of numbers with words in it.
        """
        warnings = []
        for fact in facts:
            texts = self.column(fact.name)
            check_kind(fact.name, fact.kind, texts)
            values = sorted({value for cell in texts.values() for value in fact.unknown(cell)})
            if values:
                warnings.append(
                    f"{self.path}: {fact.name} has {len(values)} value(s) that no training case has "
                    f"({', '.join(values[:5])}): they count as missing"
                )
        return warnings


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, n in Counter(names).items() if n > 1]


def _check_names(names: Sequence[str], key: str, named: str, setting: str) -> None:
    """Raise if a table has no column of this name, or columns of one name, or without one."""
    if key not in names:
        hint = f"{setting}_key names another, such as {setting}_key={names[0]}" if names else "fill the table"
        raise InputError(f"{named}: has no column {key}, its columns are {', '.join(names) or 'none'}; {hint}")
    if (repeated := _repeated(names)) or "" in names:
        raise InputError(f"{named}: columns {', '.join(repeated) or 'without a name'}; give each a name of its own")
