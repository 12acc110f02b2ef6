"""Strata: what folds are balanced over in addition to their size, such as classes, lesion sizes or sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from medseg.data.case import Case
from medseg.data.splits.groups import words_of
from medseg.errors import InputError
from medseg.facts import NUMBER, Fact
from medseg.labels import LabelTable

CLASSES, SIZE = "classes", "size"
"""Values of ``split.stratify`` that read the labels; others name a word for each case."""
_QUARTILES = (0.25, 0.5, 0.75)
Strata = Mapping[str, frozenset[str]]
"""Case id -> names of the strata that it belongs to, any number."""


def strata_of(
    cases: Sequence[Case],
    stratify: str,
    labels: LabelTable,
    label_of: Callable[[Case], Int[np.ndarray, " *s"]],
) -> dict[str, frozenset[str]]:
    """The strata of each case.

    - ``classes``: each class but the background that its label has;
    - ``size``: the quartile, among all cases, of the share of its labelled cells that is not background;
    - else its word in a table (``FILE.csv:site``) or by an expression, as for ``data.groups``.

    Cases without a label belong to no stratum of the first two.

    Args:
        cases: The cases.
        stratify: See above.
        labels: Classes of the cases.
        label_of: Reads the training index of each cell, or ``IGNORE``, of a case with a label.

    Raises:
        InputError: A case without a word, an invalid expression or table, or ``size`` of classes without a background.
    """
    if stratify not in (CLASSES, SIZE):
        words = words_of(cases, stratify, "split.stratify", column="stratum", kind="stratum")
        return {case.id: frozenset([words[case.id]]) for case in cases if case.id in words}
    if stratify == SIZE and not labels.background:
        raise InputError("split.stratify=size: the classes have no background; take classes, or null")
    counts = {case.id: _counts(label_of(case), labels.n_classes) for case in cases if case.label}
    return _classes_of(counts, labels) if stratify == CLASSES else _quartiles_of(counts)


def strata_of_fact(cases: Sequence[Case], fact: Fact) -> dict[str, frozenset[str]]:
    """The word or the tags of each case; cases without one belong to no stratum.

    Raises:
        InputError: The fact is a number.
    """
    if fact.kind == NUMBER:
        raise InputError(
            f"split.stratify={fact.name}: is a number, expected a word or tags; add a column of groups, such as young "
            "and old, to the table"
        )
    return {case.id: frozenset(fact.parts(case.facts[fact.name])) for case in cases if case.facts is not None}


def _classes_of(counts: Mapping[str, Int[np.ndarray, " k"]], labels: LabelTable) -> dict[str, frozenset[str]]:
    """Names of the classes, but the background, that each case has."""
    first = int(labels.background)
    return {case: frozenset(labels.names[first + i] for i in np.flatnonzero(n[first:])) for case, n in counts.items()}


def _quartiles_of(counts: Mapping[str, Int[np.ndarray, " k"]]) -> dict[str, frozenset[str]]:
    """Quartile of the share of foreground of each case; equal shares are of one quartile."""
    shares = [float(n[1:].sum() / max(n.sum(), 1)) for n in counts.values()]
    if not shares:
        return {}
    quartiles = np.searchsorted(np.quantile(shares, _QUARTILES), shares, side="right")
    return {case: frozenset([f"size {quartile}"]) for case, quartile in zip(counts, quartiles, strict=True)}


def _counts(index: Int[np.ndarray, " *s"], n_classes: int) -> Int[np.ndarray, " k"]:
    """Cells of each class."""
    return np.bincount(index[index >= 0].ravel(), minlength=n_classes)


def dealt(groups: Sequence[tuple[str, Sequence[str]]], n_folds: int, strata: Strata) -> dict[str, int]:
    """The fold of each group, so that folds are alike in size and in each stratum.

    Groups go from those that hold most of some rare stratum to the others, each to the fold in which the squared
    deviations from an even share, summed over strata and the number of cases and each divided by that share, grow
    least: the fold with the smallest sum of the products of what it and the group hold of each, divided by the share
    (scikit-learn, whose ``StratifiedGroupKFold`` has one stratum for each case, is no dependency). Of equal folds the
    first is taken. An empty fold comes before all others, so that none stays empty.

    Args:
        groups: Name and case ids of each group, in the order in which equal ones are dealt.
        n_folds: Number of folds, at most that of the groups.
        strata: Of the cases.
    """
    columns = {name: 1 + i for i, name in enumerate(sorted({s for own in strata.values() for s in own}))}
    amounts = np.zeros((len(groups), 1 + len(columns)))
    for row, (_, cases) in zip(amounts, groups, strict=True):
        row[0] = len(cases)
        for case in cases:
            row[[columns[name] for name in strata.get(case, ())]] += 1
    share = amounts.sum(axis=0) / n_folds
    held = np.zeros((n_folds, amounts.shape[1]))
    fold_of: dict[str, int] = {}
    for i in np.argsort(-(amounts / share).sum(axis=1), kind="stable"):
        fold = int(np.argmin((held * amounts[i] / share).sum(axis=1).round(9)))
        held[fold] += amounts[i]
        fold_of[groups[i][0]] = fold
    return fold_of
