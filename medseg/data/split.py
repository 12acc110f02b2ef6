"""Folds and groups: which cases train and which validate; a group is never torn apart."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import Case, refuse
from medseg.errors import BadInput


def grouped(cases: Sequence[Case], groups: str | None) -> list[Case]:
    r"""The cases with their groups set (patient, site, scanner).

    Args:
        cases: Any cases.
        groups: Either the path of a ``.csv`` file with the columns ``case`` and ``group``, or a regular
            expression searched in each case id, whose first bracket (or else whole match) is the group.
            None leaves the cases as they are.

    Raises:
        BadInput: A case without a group, an invalid expression, or a table without these columns.

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
    return [replace(c, group=found[c.id]) for c in cases]


def _groups_by_name(cases: Sequence[Case], expression: str) -> dict[str, str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise BadInput(
            f"data.groups={expression!r} is no regular expression ({error}); give one, or a .csv file"
        ) from error
    hits = {c.id: pattern.search(c.id) for c in cases}
    return {
        name: hit[1] if pattern.groups else hit[0]
        for name, hit in hits.items()
        if hit and (hit.lastindex or not pattern.groups)
    }


def _groups_of_table(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise BadInput(f"data.groups={path}: no such file; expected a table with the columns case,group")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"case", "group"} <= set(reader.fieldnames or ()):
            raise BadInput(f"{path}: columns are {reader.fieldnames}, expected case,group in the first line")
        return {row["case"]: row["group"] for row in reader if row["group"]}


def folds(cases: Sequence[Case], n_folds: int = 5, seed: int = 12345) -> list[list[str]]:
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
        BadInput: Fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(c.group for c in cases)
    if not 2 <= n_folds <= len(sizes):
        raise BadInput(
            f"{n_folds} folds of {len(sizes)} group(s) of cases: needs at least 2 folds and a group for each; "
            "set data.n_folds, or data.fold=all to train and validate on every case"
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
    cases: Sequence[Case], fold: int | str, n_folds: int = 5, seed: int = 12345, file: Path | str | None = None
) -> tuple[list[str], list[str]]:
    """Sorted ids of the training and of the validation cases of one fold.

    Args:
        cases: The labelled cases.
        fold: In [0, number of folds), or ``"all"``: train and validate on every case.
        n_folds: As in ``folds``; not used with a file.
        seed: As in ``folds``; not used with a file.
        file: The user's own folds, a JSON list of ``{"train": [ids], "val": [ids]}`` (nnU-Net's
            ``splits_final.json``). It need not name every case.

    Raises:
        BadInput: No such fold; or a file that is malformed, names unknown cases, or has a case or a
            group on both sides.
    """
    if fold == "all":
        ids = sorted(c.id for c in cases)
        return ids, ids
    if file is None:
        vals = folds(cases, n_folds, seed)
        _check_fold(fold, n_folds, f"data.n_folds={n_folds}")
        val = vals[int(fold)]
        return sorted({c.id for c in cases} - set(val)), val
    entries = _read_splits(Path(file))
    _check_fold(fold, len(entries), str(file))
    train, val = (sorted(entries[int(fold)][side]) for side in ("train", "val"))
    _check_split(cases, train, val, f"{file}, fold {fold}")
    return train, val


def _check_fold(fold: int | str, n_folds: int, where: str) -> None:
    if isinstance(fold, str) or not 0 <= fold < n_folds:
        raise BadInput(f'fold {fold!r} of {where}: expected 0 to {n_folds - 1}, or "all"; set data.fold')


def _read_splits(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error}); set data.split_file to a splits file") from error
    whole = isinstance(entries, list) and all(isinstance(e, dict) and {"train", "val"} <= set(e) for e in entries)
    if not whole or not entries:
        raise BadInput(f'{path}: expected a list of {{"train": [case ids], "val": [case ids]}}, one a fold')
    return entries


def _check_split(cases: Sequence[Case], train: list[str], val: list[str], where: str) -> None:
    group = {c.id: c.group for c in cases}
    if not train or not val:
        raise BadInput(f"{where}: {len(train)} training and {len(val)} validation cases; each needs at least one")
    refuse(
        sorted({*train, *val} - set(group)),
        f"unknown case(s) in {where}",
        f"expected ids such as {sorted(group)[:2]}; mend the file",
    )
    refuse(
        sorted({*train} & {*val}), f"case(s) in both training and validation of {where}", "leave each on one side only"
    )
    refuse(
        sorted({group[c] for c in train} & {group[c] for c in val}),
        f"group(s) in both training and validation of {where}",
        "keep the cases of a group on one side, or change data.groups",
    )
