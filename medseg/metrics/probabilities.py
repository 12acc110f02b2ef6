"""Sums over the probabilities of a case, block by block, from which its calibration follows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.errors import InputError
from medseg.metrics.blocks import row_blocks
from medseg.metrics.structure import CaseCells

LEAST = float(np.finfo(np.float32).eps)
"""Probability below which the logarithm is cut: 16 nats, as scikit-learn does for float32."""
_TOLERANCE = 0.01  # of the sum of the probabilities of a cell; those in half precision are off by 0.001
Block = tuple[Int[np.ndarray, " n"], Iterator[tuple[int, Float[np.ndarray, " n"]]]]
"""Labels of the counted cells of some rows; and each annotated output of the network with its probabilities there."""


def blocks_of(case: CaseCells) -> Iterator[Block]:
    """The counted cells of a case in blocks of rows, one output after the other: few bytes a cell, whatever its size.

    The probability of classes that the label does not annotate counts as that of the background, if there is one.

    Raises:
        InputError: Probabilities of another shape, outside [0, 1], or of classes and of another sum than 1.
    """
    outputs, prob = case.labels.n_outputs, case.prob
    if prob is None or prob.shape != (outputs, *case.label.shape):
        raise InputError(
            f"{case.name}: got probabilities of shape {None if prob is None else prob.shape}, expected "
            f"{(outputs, *case.label.shape)}: one for each class or region and cell"
        )
    for rows in row_blocks(case.label.shape):
        yield case.label[rows][case.counted[rows]].astype(np.int64), _checked(case, rows)


def _checked(case: CaseCells, rows: slice) -> Iterator[tuple[int, Float[np.ndarray, " n"]]]:
    """Each annotated output with its probabilities, checked; of classes the sum too, when all have been taken."""
    total = np.zeros(int(case.counted[rows].sum()))
    for output, sources in _sources(case).items():
        prob = np.sum([_probabilities(case, source, rows) for source in sources], axis=0)
        total += prob
        yield output, prob
    gap = 0.0 if case.labels.regions else float(np.abs(total - 1).max(initial=0))
    if gap > _TOLERANCE:
        raise InputError(
            f"{case.name}: probabilities of a cell sum to 1 {'+' if np.max(total) > 1 else '-'} {gap:.3g}, expected 1 "
            "for classes that exclude each other; give the softmax over the classes, or declare regions"
        )


def _sources(case: CaseCells) -> dict[int, list[int]]:
    """The outputs that count, and whose probabilities count as theirs: of the background those not annotated too."""
    every = range(case.labels.n_outputs)
    annotated = [output for output in every if case.annotates(output)]
    if case.labels.regions:
        return {output: [output] for output in annotated}
    if not case.labels.background:
        return {output: [output] for output in every}
    hidden = [output for output in every if output not in annotated]
    return {output: [output, *(hidden if output == 0 else [])] for output in annotated}


def _probabilities(case: CaseCells, output: int, rows: slice) -> Float[np.ndarray, " n"]:
    """Of an output in the counted cells of some rows, in float64.

    Raises:
        InputError: They are none.
    """
    prob = case.prob[output][rows][case.counted[rows]]  # type: ignore[index]
    if not ((prob >= 0) & (prob <= 1)).all():
        raise InputError(f"{case.name}: probabilities must lie in [0, 1], got {prob.min()} to {prob.max()}")
    return prob.astype(np.float64)


def is_inside(case: CaseCells, output: int, label: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Cells of a class, or of a region."""
    if case.labels.regions:
        return np.isin(label, case.labels.regions[output].members)
    return label == output


def scores(case: CaseCells) -> Float[np.ndarray, "3"]:
    """Sum of the squared errors and of the negative log-likelihood of all counted cells, and their number.

    Both are sums over the classes of a cell (of which only its own has a likelihood), or over its regions.
    """
    total = np.zeros(3)
    for label, outputs in blocks_of(case):
        for output, prob in outputs:
            inside = is_inside(case, output, label)
            total[0] += np.square(prob - inside).sum()
            total[1] -= np.log(np.maximum(prob[inside], LEAST)).sum()
            if case.labels.regions:
                total[1] -= np.log(np.maximum(1 - prob[~inside], LEAST)).sum()
        total[2] += len(label)
    return total


def reliability(prob: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bins: int) -> Float[np.ndarray, "bins 3"]:
    """By bins of equal width: number of probabilities, their sum, and how many of them are right.

    Args:
        prob: In [0, 1]; the lower end of a bin belongs to it.
        right: Whether what it is the probability of is so.
        bins: Number of bins.
    """
    place = np.minimum((prob * bins).astype(np.int64), bins - 1)
    columns = (None, prob, right)
    return np.stack([np.bincount(place, weights=of, minlength=bins) for of in columns], axis=1).astype(np.float64)


def top_reliability(case: CaseCells, bins: int) -> Float[np.ndarray, "bins 3"]:
    """``reliability`` of decisions: of the most probable class of each cell, or for each region of in or out of it."""
    total = np.zeros((bins, 3))
    for label, outputs in blocks_of(case):
        largest, decided = np.full(len(label), -1.0), np.zeros(len(label), dtype=np.int64)
        for output, prob in outputs:
            if case.labels.regions:
                right = (prob > 0.5) == is_inside(case, output, label)
                total += reliability(np.maximum(prob, 1 - prob), right, bins)
            else:
                decided[prob > largest] = output
                largest = np.maximum(largest, prob)
        if not case.labels.regions:
            total += reliability(largest, decided == label, bins)
    return total


def class_reliability(case: CaseCells, bins: int) -> Float[np.ndarray, "o bins 3"]:
    """``reliability`` of the probability of each class or region; 0 for those that are not annotated."""
    total = np.zeros((case.labels.n_outputs, bins, 3))
    for label, outputs in blocks_of(case):
        for output, prob in outputs:
            total[output] += reliability(prob, is_inside(case, output, label), bins)
    return total


def calibration_error(table: Float[np.ndarray, "*n bins 3"]) -> Float[np.ndarray, "*n"]:
    """Expected calibration error: mean distance of probability and share of what is right, weighted by cells.

    Args:
        table: Result of ``reliability``, or sums of such.

    Returns:
        In [0, 1]; NaN without a cell.
    """
    cells = table[..., 0].sum(axis=-1)
    gap = np.abs(table[..., 1] - table[..., 2]).sum(axis=-1)
    return np.divide(gap, cells, out=np.full(np.shape(gap), np.nan), where=cells > 0)


def reliability_rows(table: Float[np.ndarray, "bins 3"]) -> list[dict[str, object]]:
    """A row for each bin: its ends, number of probabilities, their mean, and the share that is right."""
    bins = len(table)
    return [
        {
            "from": i / bins,
            "to": (i + 1) / bins,
            "cells": int(cells),
            "probability": float(total / cells) if cells else None,
            "share": float(right / cells) if cells else None,
        }
        for i, (cells, total, right) in enumerate(table.tolist())
    ]
