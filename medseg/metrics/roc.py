"""Area under the ROC curve, from counts of cells by probability that add up over cases."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy.special import logit

BINS = 2048
"""Bins of equal width in log-odds, over [-16, 16]: odds that differ by more than 1.6 % are distinguished."""
_LARGEST = 16.0  # log-odds; a probability of 1 - 1e-7, about the largest below 1 in float32


def score_histogram(
    prob: Float[np.ndarray, " *s"], positive: Bool[np.ndarray, " *s"], counted: Bool[np.ndarray, " *s"]
) -> Int[np.ndarray, "2 bins"]:
    """Cells outside a structure (first row) and inside it (second), by the log-odds of their probability.

    The area under the curve depends on the order of probabilities alone, so any bins would do; those
    in log-odds are fine where networks put most cells, near 0 and 1.

    Args:
        prob: Probability of the structure in each cell, in [0, 1]; anything where not ``counted``.
        positive: Where the structure is labelled.
        counted: False where a cell is ignored or invalid.

    Raises:
        ValueError: A probability is not a number in [0, 1].

    Example:
        >>> prob, inside = np.array([0.1, 0.9, 0.8]), np.array([False, True, True])
        >>> score_histogram(prob, inside, np.array([True, True, False])).sum(axis=1).tolist()
        [1, 1]
    """
    cells, inside = prob[counted], positive[counted]
    if not ((cells >= 0) & (cells <= 1)).all():
        raise ValueError(f"probabilities must lie in [0, 1], got {cells.min()} to {cells.max()}")
    place = (logit(cells).clip(-_LARGEST, _LARGEST) + _LARGEST) * (BINS / (2 * _LARGEST))
    bins = np.minimum(place.astype(np.int64), BINS - 1)
    return np.bincount(bins + BINS * inside, minlength=2 * BINS).reshape(2, BINS)


def area(histogram: Real[np.ndarray, "*n 2 bins"]) -> Float[np.ndarray, "*n"]:
    r"""Area under the ROC curve: how often a cell inside has a larger probability than one outside; ties count half.

    .. math:: \sum_b p_b (\sum_{a<b} n_a + n_b / 2) / (P N)

    with p and n the cells inside and outside by bin, P and N their sums. Cells of one bin are taken for
    tied. So it is off by at most half the share of pairs (inside, outside) that lie in one bin; for
    normally distributed log-odds of standard deviation 2 that is 0.001 at worst, and 3e-6 as measured.

    Args:
        histogram: Result of ``score_histogram``, or sums of such.

    Returns:
        In [0, 1], 0.5 is chance; NaN where every cell, or none, is inside.
    """
    outside, inside = histogram[..., 0, :].astype(np.float64), histogram[..., 1, :].astype(np.float64)
    below = outside.cumsum(axis=-1) - outside / 2
    pairs = outside.sum(axis=-1) * inside.sum(axis=-1)
    right = (inside * below).sum(axis=-1)
    return np.divide(right, pairs, out=np.full(np.shape(right), np.nan), where=pairs > 0)
