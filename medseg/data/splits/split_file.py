"""Folds of a user's own files: JSON, tables or lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg import formats
from medseg.data.case import refuse
from medseg.data.splits.table import rows_of
from medseg.errors import InputError

SIDES = ("train", "val", "test")
"""Sides of a split."""
Files = str | Path | Sequence[str | Path]
"""A user's own folds:

- a JSON list of ``{"train": [ids], "val": [ids]}``, one a fold (nnU-Net's ``splits_final.json``), where
  ``"test": [ids]`` is optional;
- a ``.csv`` table with the columns ``case,fold``: numbers from 0, each case validates in its fold and
  trains in the others; or with the columns ``case,split``: ``train``, ``val`` or ``test``, a single fold;
- two or three text files, ``[train.txt, val.txt, test.txt]``, a case in each line, which is a single fold;
  of ``.csv`` files the first column counts (lists of image and mask).

A case is given by its id, or by the name of a file that has the id for its stem. Test cases are in no fold.
"""

Part = dict[str, list[str]]
"""Ids of one fold, for ``train``, ``val`` and ``test``."""


def read_folds(file: Files, ids: Sequence[str]) -> list[Part]:
    """The folds of a user's files; cases are not checked yet, but file names become their ids.

    Args:
        file: See ``Files``.
        ids: Ids of the cases.

    Raises:
        InputError: A file that is malformed.
    """
    if not isinstance(file, (str, Path)):
        parts = [_read_lists([Path(path) for path in file])]
    elif Path(file).suffix.lower() == ".csv":
        parts = _read_table(Path(file))
    else:
        parts = _read_json(Path(file))
    cases = set(ids)

    def id_of(name: str) -> str:
        return formats.stem(name) if name not in cases and formats.stem(name) in cases else name

    return [{side: [id_of(n) for n in part.get(side, ())] for side in SIDES} for part in parts]


def _read_json(path: Path) -> list[Part]:
    """Folds of a JSON list, as nnU-Net writes it."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({error}); set split.file to a .json or .csv file, or to two lists, "
            "[train.txt, val.txt]"
        ) from error
    valid = isinstance(entries, list) and all(isinstance(e, dict) and {"train", "val"} <= set(e) for e in entries)
    if not valid or not entries:
        raise InputError(f'{path}: expected a list of {{"train": [case ids], "val": [case ids]}}, one a fold')
    return [{side: list(map(str, entry.get(side, ()))) for side in SIDES} for entry in entries]


def _read_lists(paths: Sequence[Path]) -> Part:
    """The fold of two or three lists of cases."""
    if len(paths) not in (2, 3):
        raise InputError(f"split.file: got {len(paths)} lists, expected [train.txt, val.txt] or a test.txt too")
    part: Part = {}
    for side, path in zip(SIDES, paths, strict=False):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a list ({error}); expected a case in each line") from error
        names = [line.split(",")[0] for line in lines] if path.suffix.lower() == ".csv" else lines
        part[side] = [name.strip() for name in names if name.strip()]
    return part


def _read_table(path: Path) -> list[Part]:
    """Folds of a table with the columns ``case,fold`` or ``case,split``."""
    rows = rows_of(path, f"split.file={path}", ("case", "fold"), ("case", "split"))
    if not rows:
        raise InputError(f"{path}: no case in the table; add a line for each")
    return [_single_split(path, rows)] if "split" in rows[0] else _numbered_folds(path, rows)


def _single_split(path: Path, rows: Sequence[Mapping[str, str]]) -> Part:
    """The fold of a column ``split``."""
    unknown = [f"{row['case']} ({row['split']})" for row in rows if row["split"] not in SIDES]
    refuse(unknown, f"case(s) in {path} with another split than train, val or test", "fix the column")
    return {side: [row["case"] for row in rows if row["split"] == side] for side in SIDES}


def _numbered_folds(path: Path, rows: Sequence[Mapping[str, str]]) -> list[Part]:
    """The folds of a column ``fold``: each case validates in its fold and trains in the others."""
    folds = sorted({row["fold"] for row in rows}, key=lambda fold: (len(fold), fold))
    if folds != [str(k) for k in range(len(folds))]:
        raise InputError(f"{path}: folds are {folds}, expected numbers from 0 without a gap; fix the column")
    parts: list[Part] = [{"train": [], "val": []} for _ in folds]
    for row in rows:
        for fold, part in zip(folds, parts, strict=True):
            part["val" if row["fold"] == fold else "train"].append(row["case"])
    return parts


def file_names(file: Files) -> str:
    """The files as text, for messages."""
    return str(file) if isinstance(file, (str, Path)) else " and ".join(map(str, file))
