"""Overlap of a predicted and a labelled structure, from counts of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from medseg.labels import IGNORE, LabelTable


class Counts(NamedTuple):
    """Cells of one structure: true positives, false positives, false negatives."""

    tp: int
    fp: int
    fn: int


def confusion(
    pred: Int[np.ndarray, " *s"], label: Int[np.ndarray, " *s"], counted: Bool[np.ndarray, " *s"], n_classes: int
) -> Int[np.ndarray, "k k"]:
    """Cells of each labelled class (row) that were given each predicted class (column).

    Args:
        pred: Class of each cell, in [0, k) where ``counted``.
        label: Likewise; anything where not ``counted``.
        counted: False where a cell is ignored or invalid.
        n_classes: k, with the background.

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([True, True, True]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    pairs = label[counted].astype(np.int64) * n_classes + pred[counted]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def counts(table: Int[np.ndarray, "k k"], members: Sequence[int]) -> Counts:
    """Counts of the union of the classes ``members``: confusing them with each other is no error.

    Args:
        table: What ``confusion`` gave.
        members: Training indices of one target.
    """
    inside = list(members)
    tp = int(table[np.ix_(inside, inside)].sum())
    return Counts(tp, int(table[:, inside].sum()) - tp, int(table[inside].sum()) - tp)


def dice(n: Counts) -> float:
    """``2 tp / (2 tp + fp + fn)`` in [0, 1], which is F1 too; NaN if label and prediction are empty."""
    return _ratio(2 * n.tp, 2 * n.tp + n.fp + n.fn)


def iou(n: Counts) -> float:
    """Intersection over union, ``tp / (tp + fp + fn)`` in [0, 1]; NaN if both are empty."""
    return _ratio(n.tp, n.tp + n.fp + n.fn)


def precision(n: Counts) -> float:
    """Share of predicted cells that are labelled, ``tp / (tp + fp)``; NaN if none is predicted."""
    return _ratio(n.tp, n.tp + n.fp)


def recall(n: Counts) -> float:
    """Share of labelled cells that are predicted, ``tp / (tp + fn)``; NaN if none is labelled."""
    return _ratio(n.tp, n.tp + n.fn)


def mean_iou(table: Int[np.ndarray, "k k"], groups: Sequence[Sequence[int]]) -> float:
    """Mean IoU over the groups of classes that label or prediction have; NaN if they have none.

    Args:
        table: What ``confusion`` gave.
        groups: Training indices of each group; see ``groups_of``.
    """
    known = [v for v in (iou(counts(table, members)) for members in groups) if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan


def groups_of(labels: LabelTable) -> tuple[tuple[int, ...], ...]:
    """What the mean IoU is a mean of: every class, the background too; of a table of regions, the regions."""
    if labels.regions:
        return tuple(members for _, members in labels.targets)
    return tuple((i,) for i in range(labels.n_classes))


def accuracy(table: Int[np.ndarray, "k k"]) -> float:
    """Share of the cells that were given the class they are labelled with; NaN without a cell."""
    return _ratio(int(table.trace()), int(table.sum()))


def volume_error(n: Counts, spacing: Sequence[float]) -> float:
    """Absolute difference of predicted and labelled volume (area in 2D), in the unit of ``spacing`` to the d.

    It says nothing of place: a structure of the right size in the wrong place has no error.
    """
    return abs(n.fp - n.fn) * float(np.prod(spacing))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def tally(
    pred: Int[np.ndarray, " *s"], label: Int[np.ndarray, " *s"], valid: Bool[np.ndarray, " *s"], labels: LabelTable
) -> Int[np.ndarray, "k k"]:
    """Confusion of one case over its cells that are valid and not ``IGNORE``.

    Args:
        pred: Training index of each cell.
        label: Likewise, or ``IGNORE``.
        valid: False where a cell does not count.
        labels: Of both.
    """
    return confusion(pred, label, valid & (label != IGNORE), labels.n_classes)


def validation_scores(
    tables: Sequence[Int[np.ndarray, "k k"]], labels: LabelTable, *, pooled: bool
) -> dict[str, float]:
    """Scores of a round of validation by the end of their key: ``dice``, ``dice/<class>`` and more.

    Args:
        tables: What ``tally`` gave for each case.
        labels: Names the scored classes or regions.
        pooled: Count the cells of all cases together, as for scenes; then ``iou/<class>`` and ``miou``
            come too. If not, Dice is the mean over cases; a class that a case has neither in label nor
            in prediction is left out there.

    Returns:
        Dice is NaN for a class that no case has; their mean, ``dice``, leaves such out, and is 0 if no
        class is left.
    """
    parts = [sum(tables[1:], tables[0])] if pooled and len(tables) else list(tables)
    scores = {}
    for name, members in labels.targets:
        found = [dice(counts(table, members)) for table in parts]
        scores[f"dice/{name}"] = _mean_of_known(found)
        if pooled:
            scores[f"iou/{name}"] = _mean_of_known([iou(counts(table, members)) for table in parts])
    if pooled:
        scores["miou"] = mean_iou(parts[0], groups_of(labels)) if parts else math.nan
    mean = _mean_of_known([scores[f"dice/{name}"] for name, _ in labels.targets])
    return {"dice": 0.0 if math.isnan(mean) else mean} | scores


def validation_names(labels: LabelTable, *, pooled: bool) -> tuple[str, ...]:
    """Keys of ``validation_scores``."""
    targets = [name for name, _ in labels.targets]
    by_class = [f"{metric}/{name}" for metric in class_metrics(pooled=pooled) for name in targets]
    return (*whole_case_names(pooled=pooled), *by_class)


def whole_case_names(*, pooled: bool) -> tuple[str, ...]:
    """Keys of all classes together, which need no label table."""
    return ("dice", "miou") if pooled else ("dice",)


def class_metrics(*, pooled: bool) -> tuple[str, ...]:
    """What is scored for each class."""
    return ("dice", "iou") if pooled else ("dice",)


def _mean_of_known(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
