"""Folds: which cases train and which validate; a group is always on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from medseg.data.case import Case, refuse
from medseg.data.splits.blocks import beside
from medseg.data.splits.split_file import Files, Part, file_names, read_folds
from medseg.data.splits.strata import Strata, dealt
from medseg.errors import InputError

USUAL = 5
"""Default number of folds."""


def number_of_folds(cases: Sequence[Case], n_folds: int | None) -> int:
    """The number of the settings; without one ``USUAL``, or the number of groups of cases if that is smaller.

    Example:
        >>> number_of_folds([Case(f"c{i}", (), None, f"c{i}") for i in range(3)], None)
        3
    """
    return min(USUAL, len({c.group for c in cases})) if n_folds is None else n_folds


def folds(
    cases: Sequence[Case], n_folds: int = USUAL, seed: int = 12345, strata: Strata | None = None
) -> list[list[str]]:
    """Validation case ids of each fold; every case validates exactly once.

    Where every case is its own group, these are the folds of nnU-Net (scikit-learn's
    ``KFold(n_folds, shuffle=True, random_state=seed)`` over the sorted ids): positions are shuffled by
    numpy's ``RandomState(seed)`` and cut into runs, of which the first ``n % n_folds`` are one longer.
    Otherwise the sorted group names are shuffled the same way and assigned from the largest group to
    the smallest (equal ones in shuffled order), each to the fold with the fewest cases so far.
    With ``strata``, groups are dealt so that folds are alike in these, see ``strata.dealt``.

    Args:
        cases: The cases; their order has no effect.
        n_folds: Number of folds, at least 2.
        seed: Seed of ``RandomState``.
        strata: Of the cases; None for the folds above.

    Returns:
        Sorted ids of each fold.

    Raises:
        InputError: Fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(c.group for c in cases)
    _check_number(n_folds, len(sizes))
    if len(sizes) == len(cases) and strata is None:
        ids = _shuffled([c.id for c in cases], seed)
        return [sorted(ids[i] for i in part) for part in np.array_split(np.arange(len(ids)), n_folds)]
    fold_of = _balanced(sizes, n_folds, seed) if strata is None else _dealt(cases, n_folds, seed, strata)
    return [sorted(c.id for c in cases if fold_of[c.group] == k) for k in range(n_folds)]


def _dealt(cases: Sequence[Case], n_folds: int, seed: int, strata: Strata) -> dict[str, int]:
    """The fold of each group, balanced over strata; equal groups are dealt in shuffled order."""
    members: dict[str, list[str]] = {}
    for case in cases:
        members.setdefault(case.group, []).append(case.id)
    return dealt([(name, members[name]) for name in _shuffled(list(members), seed)], n_folds, strata)


def _balanced(sizes: Mapping[str, int], n_folds: int, seed: int) -> dict[str, int]:
    """The fold of each group: from the largest group to the smallest, the one with the fewest cases so far."""
    fold_of: dict[str, int] = {}
    n_cases = [0] * n_folds
    for name in sorted(_shuffled(list(sizes), seed), key=lambda name: -sizes[name]):
        fold_of[name] = n_cases.index(min(n_cases))
        n_cases[fold_of[name]] += sizes[name]
    return fold_of


def _check_number(n_folds: int, n_groups: int) -> None:
    """Raise on fewer than two folds, or more than there are groups."""
    if not 2 <= n_folds <= n_groups:
        expected = f"2 to {n_groups} folds" if n_groups > 1 else "at least 2 groups"
        raise InputError(
            f"{n_folds} folds of {n_groups} group(s) of cases: expected {expected}, as each fold validates on "
            "a group; set split.n_folds, or split.fold=all to train and validate on every case"
        )


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
    strata: Strata | None = None,
) -> tuple[list[str], list[str]]:
    """Sorted ids of the training and of the validation cases of one fold.

    Args:
        cases: The labelled cases.
        fold: In [0, number of folds), or ``"all"``: train and validate on every case (but ``held_out``).
        n_folds: Number of folds as in ``number_of_folds``; not used with a file.
        seed: Seed as in ``folds``; not used with a file.
        file: The user's own folds, see ``Files``. They need not name every case.
        gap: Training cases within this many places of a validation case, in the order of the ids, are
            left out; for stacks whose sections are cases, see ``blocks.runs``.
        strata: As in ``folds``; not used with a file.

    Raises:
        InputError: No such fold; or a file that is malformed, names unknown cases, or has a case or a
            group on both sides; or a gap that leaves no training case.
    """
    ids = sorted({c.id for c in cases})
    if fold == "all":
        test = set() if file is None else _test_names(read_folds(file, ids))
        remaining = [name for name in ids if name not in test]
        return remaining, remaining
    train, val = _own_split(cases, fold, n_folds, seed, strata) if file is None else _split_of_file(cases, fold, file)
    near = beside(ids, val, gap)
    if near >= set(train):
        raise InputError(
            f"fold {fold}: all {len(train)} training cases lie within split.gap={gap} of a validation case"
        )
    return [name for name in train if name not in near], val


def _own_split(
    cases: Sequence[Case], fold: int | str, n_folds: int | None, seed: int, strata: Strata | None
) -> tuple[list[str], list[str]]:
    """Sorted ids of training and validation of a fold that is drawn."""
    n_folds = number_of_folds(cases, n_folds)
    vals = folds(cases, n_folds, seed, strata)
    _check_fold(fold, n_folds, f"split.n_folds={n_folds}")
    val = vals[int(fold)]
    return sorted({c.id for c in cases} - set(val)), val


def _split_of_file(cases: Sequence[Case], fold: int | str, file: Files) -> tuple[list[str], list[str]]:
    """Sorted ids of training and validation of a fold of a user's file."""
    parts = read_folds(file, [c.id for c in cases])
    _check_fold(fold, len(parts), file_names(file))
    part = {side: sorted(set(names)) for side, names in parts[int(fold)].items()}
    _check_part(cases, part, f"{file_names(file)}, fold {fold}")
    return part["train"], part["val"]


def held_out(cases: Sequence[Case], fold: int | str, file: Files | None) -> list[str]:
    """Sorted ids of the cases that the user's file keeps for the test of one fold, or with ``"all"`` of any."""
    if file is None:
        return []
    parts = read_folds(file, [c.id for c in cases])
    if fold != "all":
        _check_fold(fold, len(parts), file_names(file))
        parts = [parts[int(fold)]]
    names = sorted(_test_names(parts))
    _check_known(cases, names, file_names(file))
    return names


def _test_names(parts: Sequence[Part]) -> set[str]:
    """Names of the test cases of all folds."""
    return {name for part in parts for name in part["test"]}


def _check_fold(fold: int | str, n_folds: int, where: str) -> None:
    """Raise on a fold that does not exist."""
    if isinstance(fold, str) or not 0 <= fold < n_folds:
        raise InputError(f'fold {fold!r} of {where}: expected 0 to {n_folds - 1}, or "all"; set split.fold')


def _check_part(cases: Sequence[Case], part: Mapping[str, list[str]], where: str) -> None:
    """Raise on an empty side, and report unknown cases, and cases and groups on two sides."""
    group = {c.id: c.group for c in cases}
    train, val = part["train"], part["val"]
    if not train or not val:
        raise InputError(f"{where}: {len(train)} training and {len(val)} validation cases; each needs at least one")
    _check_known(cases, [name for names in part.values() for name in names], where)
    titles = {"train": "training", "val": "validation", "test": "test"}
    for one, other in combinations(part, 2):
        sides = f"in both {titles[one]} and {titles[other]} of {where}"
        refuse(sorted({*part[one]} & {*part[other]}), f"case(s) {sides}", "leave each on one side only")
        refuse(
            sorted({group[c] for c in part[one]} & {group[c] for c in part[other]}),
            f"group(s) {sides}",
            "keep the cases of a group on one side, or change data.groups",
        )


def _check_known(cases: Sequence[Case], names: Sequence[str], where: str) -> None:
    """Report names that are no case."""
    ids = {c.id for c in cases}
    refuse(
        sorted({*names} - ids),
        f"unknown case(s) in {where}",
        f"expected ids such as {sorted(ids)[:2]}; fix the file",
    )
