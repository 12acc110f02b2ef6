"""Overlap of a predicted and a labelled structure, from counts of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from medseg.labels import IGNORE, LabelTable
from medseg.labels.annotated import without_unknown
from medseg.metrics.blocks import row_blocks


class Counts(NamedTuple):
    """Cells of one structure (or arrays of them): true and false positives, false and true negatives."""

    tp: Any
    fp: Any
    fn: Any
    tn: Any


def confusion(
    pred: Int[np.ndarray, " *s"], label: Int[np.ndarray, " *s"], counted: Bool[np.ndarray, " *s"], n_classes: int
) -> Int[np.ndarray, "k k"]:
    """Cells of each labelled class (row) by predicted class (column).

    Args:
        pred: Class of each cell, in [0, k) where ``counted``.
        label: Class of each cell; anything where not ``counted``.
        counted: False where a cell is ignored or invalid.
        n_classes: k, with the background.

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([True, True, True]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    table = np.zeros(n_classes**2, dtype=np.int64)
    for rows in row_blocks(label.shape):
        here = counted[rows]
        pairs = label[rows][here].astype(np.int64) * n_classes + pred[rows][here]
        table += np.bincount(pairs, minlength=n_classes**2)
    return table.reshape(n_classes, n_classes)


def counts(table: Int[np.ndarray, "k k"], members: Sequence[int]) -> Counts:
    """Counts of the union of the classes ``members``: confusing them with each other is no error.

    Args:
        table: Cells by labelled (row) and predicted (column) class.
        members: Training indices of one target.
    """
    inside = list(members)
    tp = int(table[np.ix_(inside, inside)].sum())
    fp, fn = int(table[:, inside].sum()) - tp, int(table[inside].sum()) - tp
    return Counts(tp, fp, fn, int(table.sum()) - tp - fp - fn)


def confusion_matrix(
    pred: Int[np.ndarray, " *s"],
    label: Int[np.ndarray, " *s"],
    valid: Bool[np.ndarray, " *s"],
    labels: LabelTable,
    annotated: Bool[np.ndarray, " o"] | None = None,
) -> Int[np.ndarray, "k k"]:
    """Confusion matrix of one case over its cells that are valid and not ``IGNORE``.

    Args:
        pred: Training index of each cell.
        label: Training index of each cell, or ``IGNORE``.
        valid: False where a cell does not count.
        labels: Label table of both.
        annotated: Which classes (with regions, which regions) the label annotates; None for all. Cells of other
            classes count as the background, see ``without_unknown``.
    """
    if annotated is not None:
        pred = without_unknown(pred, labels, annotated, predicted=True)
        label = without_unknown(label, labels, annotated)
    return confusion(pred, label, valid & (label != IGNORE), labels.n_classes)
