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
    if not path.is_file():
        raise InputError(f"{setting}: no such file; expected a table with the columns {expected}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        if sum(set(names) <= set(reader.fieldnames or ()) for names in columns) != 1:
            raise InputError(f"{path}: columns are {reader.fieldnames}, expected {expected} in the first line")
        return list(reader)
