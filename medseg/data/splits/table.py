"""Tables of cases: rows of a ``.csv`` file with the expected columns."""

from __future__ import annotations

import csv
from pathlib import Path

from medseg.errors import InputError


def rows_of(path: Path, setting: str, *columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a table.

    Args:
        path: The file.
        setting: Key and value of the configuration that names it, for messages.
        columns: Choices of columns, of which the table has exactly one.

    Raises:
        InputError: No such file, or other columns.
    """
    expected = " or ".join(",".join(names) for names in columns)
    names, rows = read_table(path, setting, expected)
    if sum(set(choice) <= set(names) for choice in columns) != 1:
        raise InputError(f"{path}: columns are {names}, expected {expected} in the first line")
    return rows


def read_table(path: Path, setting: str, expected: str) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns of a table, and its rows without those that are empty.

    Columns are separated by commas, semicolons or tabs, whichever stands most often in the first line. A byte order
    mark, as spreadsheets write one, is no part of the first name.

    Args:
        path: The file.
        setting: Key and value of the configuration that names it, for messages.
        expected: Columns that it should have, for messages.

    Raises:
        InputError: No such file, one that is not UTF-8, or a row with more cells than there are columns.
    """
    if not path.is_file():
        raise InputError(f"{setting}: no such file; expected a table with the columns {expected}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{setting}: is not UTF-8 ({error.reason}); save the table as CSV in UTF-8") from error
    first = lines[0] if lines else ""
    reader = csv.DictReader(lines, restval="", delimiter=max(",;\t", key=first.count))
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    rows = []
    for row in reader:
        if None in row:
            raise InputError(f"{path}: line {reader.line_num} has more cells than the {len(names)} columns; fix it")
        rows.append({name: value.strip() for name, value in row.items()})
    return names, [row for row in rows if any(row.values())]
