"""Overlap of a predicted and a labelled structure, from counts of cells."""

from __future__ import annotations

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
    """``2 tp / (2 tp + fp + fn)`` in [0, 1]; NaN if label and prediction are empty."""
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


def volume_error(n: Counts, spacing: Sequence[float]) -> float:
    """Absolute difference of predicted and labelled volume (area in 2D), in the unit of ``spacing`` to the d.

    It says nothing of place: a structure of the right size in the wrong place has no error.
    """
    return abs(n.fp - n.fn) * float(np.prod(spacing))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def dice_by_class(
    pred: Int[np.ndarray, " *s"], label: Int[np.ndarray, " *s"], valid: Bool[np.ndarray, " *s"], labels: LabelTable
) -> dict[str, float]:
    """Dice of each scored class of one case; NaN where neither label nor prediction has it.

    Args:
        pred: Training index of each cell.
        label: Likewise, or ``IGNORE``.
        valid: False where a cell does not count.
        labels: Names the scored classes or regions.
    """
    table = confusion(pred, label, valid & (label != IGNORE), labels.n_classes)
    return {name: dice(counts(table, members)) for name, members in labels.targets}
