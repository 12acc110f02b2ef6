"""Folds and groups: which cases train and which validate; a group is never torn apart."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.case import Case, refuse
from medseg.data.splits.blocks import beside
from medseg.errors import InputError

Files = str | Path | Sequence[str | Path]
"""A user's own folds:

- a JSON list of ``{"train": [ids], "val": [ids]}``, one a fold (nnU-Net's ``splits_final.json``), where
  ``"test": [ids]`` may stand beside them;
- a ``.csv`` table with the columns ``case,fold``: numbers from 0, each case validates in its fold and
  trains in the others; or with the columns ``case,split``: ``train``, ``val`` or ``test``, a single fold;
- two or three text files, ``[train.txt, val.txt, test.txt]``, a case in each line, which is a single fold;
  of ``.csv`` files the first column counts (lists of image and mask).

A case is given by its id, or by the name of a file that has the id for its stem. Test cases are in no fold.
"""

_Part = dict[str, list[str]]
"""Ids of one fold, for ``train``, ``val`` and ``test``."""


def grouped(cases: Sequence[Case], groups: str | None) -> list[Case]:
    r"""The cases with their groups set (patient, site, scanner).

    Args:
        cases: Any cases.
        groups: Either the path of a ``.csv`` file with the columns ``case`` and ``group``, or a regular
            expression searched in each case id, whose first bracket (or else whole match) is the group.
            None leaves the cases as they are.

    Raises:
        InputError: A case without a group, an invalid expression, or a table without these columns.

    Example:
        >>> visits = [Case(f"p1_visit{i}", (), None, f"p1_visit{i}") for i in (1, 2)]
        >>> {c.group for c in grouped(visits, r"(p\d+)_")}
        {'p1'}
    """
    if groups is None:
        return list(cases)
    found = _groups_of_table(Path(groups)) if groups.lower().endswith(".csv") else _groups_by_name(cases, groups)
    refuse(
        [c.id for c in cases if c.id not in found],
        f"case(s) without a group in data.groups={groups!r}",
        "add them to the table, or widen the expression",
    )
    return [replace(c, group=found.get(c.id, c.group)) for c in cases]


def _groups_by_name(cases: Sequence[Case], expression: str) -> dict[str, str]:
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
    rows = _rows(path, f"data.groups={path}", ("case", "group"))
    return {row["case"]: row["group"] for row in rows if row["group"]}


def _rows(path: Path, setting: str, *columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a table that has the columns of exactly one of the choices."""
    wanted = " or ".join(",".join(names) for names in columns)
    if not path.is_file():
        raise InputError(f"{setting}: no such file; expected a table with the columns {wanted}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        if sum(set(names) <= set(reader.fieldnames or ()) for names in columns) != 1:
            raise InputError(f"{path}: columns are {reader.fieldnames}, expected {wanted} in the first line")
        return list(reader)


USUAL = 5
"""Folds, unless a number is set or there are fewer groups."""


def number_of_folds(cases: Sequence[Case], n_folds: int | None) -> int:
    """The number that is set; without one ``USUAL``, or as many as there are groups of cases if these are fewer.

    Example:
        >>> number_of_folds([Case(f"c{i}", (), None, f"c{i}") for i in range(3)], None)
        3
    """
    return min(USUAL, len({c.group for c in cases})) if n_folds is None else n_folds


def folds(cases: Sequence[Case], n_folds: int = USUAL, seed: int = 12345) -> list[list[str]]:
    """Validation case ids of each fold; every case validates exactly once.

    Where every case is its own group, these are the folds of nnU-Net (scikit-learn's
    ``KFold(n_folds, shuffle=True, random_state=seed)`` over the sorted ids): positions are shuffled by
    numpy's ``RandomState(seed)`` and cut into runs, of which the first ``n % n_folds`` are one longer.
    Otherwise the sorted group names are shuffled likewise and dealt out from the group of most cases to
    that of fewest (equal ones in shuffled order), each to the fold with the fewest cases so far.

    Args:
        cases: In any order; the result does not depend on it.
        n_folds: At least 2.
        seed: Any seed of ``RandomState``.

    Returns:
        Sorted ids of each fold.

    Raises:
        InputError: Fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(c.group for c in cases)
    if not 2 <= n_folds <= len(sizes):
        expected = f"2 to {len(sizes)} folds" if len(sizes) > 1 else "at least 2 groups"
        raise InputError(
            f"{n_folds} folds of {len(sizes)} group(s) of cases: expected {expected}, as each fold validates on "
            "a group; set data.n_folds, or data.fold=all to train and validate on every case"
        )
    if len(sizes) == len(cases):
        ids = _shuffled([c.id for c in cases], seed)
        return [sorted(ids[i] for i in part) for part in np.array_split(np.arange(len(ids)), n_folds)]
    fold_of: dict[str, int] = {}
    filled = [0] * n_folds
    for name in sorted(_shuffled(list(sizes), seed), key=lambda name: -sizes[name]):
        fold_of[name] = filled.index(min(filled))
        filled[fold_of[name]] += sizes[name]
    return [sorted(c.id for c in cases if fold_of[c.group] == k) for k in range(n_folds)]


def _shuffled(names: list[str], seed: int) -> list[str]:
    """The sorted names in the order in which numpy's older ``RandomState(seed)`` shuffles their positions."""
    order = np.arange(len(names))
    np.random.RandomState(seed).shuffle(order)
    ordered = sorted(names)
    return [ordered[i] for i in order]


def split(
    cases: Sequence[Case],
    fold: int | str,
    n_folds: int | None = USUAL,
    seed: int = 12345,
    file: Files | None = None,
    gap: int = 0,
) -> tuple[list[str], list[str]]:
    """Sorted ids of the training and of the validation cases of one fold.

    Args:
        cases: The labelled cases.
        fold: In [0, number of folds), or ``"all"``: train and validate on every case (but ``held_out``).
        n_folds: As in ``number_of_folds``; not used with a file.
        seed: As in ``folds``; not used with a file.
        file: The user's own folds, see ``Files``. They need not name every case.
        gap: Training cases within this many places of a validation case, in the order of the ids, are
            left out; for stacks whose sections are cases, see ``blocks.runs``.

    Raises:
        InputError: No such fold; or a file that is malformed, names unknown cases, or has a case or a
            group on both sides; or a gap that leaves no training case.
    """
    parts = None if file is None else _read_folds(file, [c.id for c in cases])
    if fold == "all":
        left_out = {name for part in parts or () for name in part["test"]}
        ids = sorted({c.id for c in cases} - left_out)
        return ids, ids
    if file is None or parts is None:
        n_folds = number_of_folds(cases, n_folds)
        vals = folds(cases, n_folds, seed)
        _check_fold(fold, n_folds, f"data.n_folds={n_folds}")
        val = vals[int(fold)]
        train = sorted({c.id for c in cases} - set(val))
    else:
        _check_fold(fold, len(parts), _told(file))
        part = {side: sorted(set(names)) for side, names in parts[int(fold)].items()}
        _check_part(cases, part, f"{_told(file)}, fold {fold}")
        train, val = part["train"], part["val"]
    near = beside([c.id for c in cases], val, gap)
    if near >= set(train):
        raise InputError(f"fold {fold}: all {len(train)} training cases lie within data.gap={gap} of a validation case")
    return [name for name in train if name not in near], val


def held_out(cases: Sequence[Case], fold: int | str, file: Files | None) -> list[str]:
    """Sorted ids of the cases that the user's file keeps for the test of one fold, or with ``"all"`` of any."""
    if file is None:
        return []
    parts = _read_folds(file, [c.id for c in cases])
    if fold != "all":
        _check_fold(fold, len(parts), _told(file))
        parts = [parts[int(fold)]]
    names = sorted({name for part in parts for name in part["test"]})
    _check_known(cases, names, _told(file))
    return names


def _check_fold(fold: int | str, n_folds: int, where: str) -> None:
    if isinstance(fold, str) or not 0 <= fold < n_folds:
        raise InputError(f'fold {fold!r} of {where}: expected 0 to {n_folds - 1}, or "all"; set data.fold')


def _check_part(cases: Sequence[Case], part: Mapping[str, list[str]], where: str) -> None:
    group = {c.id: c.group for c in cases}
    train, val = part["train"], part["val"]
    if not train or not val:
        raise InputError(f"{where}: {len(train)} training and {len(val)} validation cases; each needs at least one")
    _check_known(cases, [name for names in part.values() for name in names], where)
    called = {"train": "training", "val": "validation", "test": "test"}
    for one, other in combinations(part, 2):
        sides = f"in both {called[one]} and {called[other]} of {where}"
        refuse(sorted({*part[one]} & {*part[other]}), f"case(s) {sides}", "leave each on one side only")
        refuse(
            sorted({group[c] for c in part[one]} & {group[c] for c in part[other]}),
            f"group(s) {sides}",
            "keep the cases of a group on one side, or change data.groups",
        )


def _check_known(cases: Sequence[Case], names: Sequence[str], where: str) -> None:
    known = {c.id for c in cases}
    refuse(
        sorted({*names} - known),
        f"unknown case(s) in {where}",
        f"expected ids such as {sorted(known)[:2]}; fix the file",
    )


def _told(file: Files) -> str:
    return str(file) if isinstance(file, (str, Path)) else " and ".join(map(str, file))


def _read_folds(file: Files, ids: Sequence[str]) -> list[_Part]:
    """The folds of the user's files, not yet held against the cases."""
    if not isinstance(file, (str, Path)):
        parts = [_read_lists([Path(path) for path in file])]
    elif Path(file).suffix.lower() == ".csv":
        parts = _read_table(Path(file))
    else:
        parts = _read_json(Path(file))
    known = set(ids)

    def id_of(name: str) -> str:
        return formats.stem(name) if name not in known and formats.stem(name) in known else name

    return [{side: [id_of(n) for n in part.get(side, ())] for side in ("train", "val", "test")} for part in parts]


def _read_json(path: Path) -> list[_Part]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({error}); set data.split_file to a .json or .csv file, or to two lists, "
            "[train.txt, val.txt]"
        ) from error
    whole = isinstance(entries, list) and all(isinstance(e, dict) and {"train", "val"} <= set(e) for e in entries)
    if not whole or not entries:
        raise InputError(f'{path}: expected a list of {{"train": [case ids], "val": [case ids]}}, one a fold')
    return [{side: list(map(str, entry.get(side, ()))) for side in ("train", "val", "test")} for entry in entries]


def _read_lists(paths: Sequence[Path]) -> _Part:
    if len(paths) not in (2, 3):
        raise InputError(f"data.split_file: got {len(paths)} lists, expected [train.txt, val.txt] or a test.txt too")
    part: _Part = {}
    for side, path in zip(("train", "val", "test"), paths, strict=False):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a list ({error}); expected a case in each line") from error
        names = [line.split(",")[0] for line in lines] if path.suffix.lower() == ".csv" else lines
        part[side] = [name.strip() for name in names if name.strip()]
    return part


def _read_table(path: Path) -> list[_Part]:
    rows = _rows(path, f"data.split_file={path}", ("case", "fold"), ("case", "split"))
    if not rows:
        raise InputError(f"{path}: no case in the table; add a line for each")
    if "split" in rows[0]:
        unknown = [f"{row['case']} ({row['split']})" for row in rows if row["split"] not in ("train", "val", "test")]
        refuse(unknown, f"case(s) in {path} with another split than train, val or test", "fix the column")
        return [{side: [row["case"] for row in rows if row["split"] == side] for side in ("train", "val", "test")}]
    folds = sorted({row["fold"] for row in rows}, key=lambda fold: (len(fold), fold))
    if folds != [str(k) for k in range(len(folds))]:
        raise InputError(f"{path}: folds are {folds}, expected numbers from 0 without a gap; fix the column")
    return [
        {
            "train": [row["case"] for row in rows if row["fold"] != fold],
            "val": [row["case"] for row in rows if row["fold"] == fold],
        }
        for fold in folds
    ]
