"""Temperature scaling: one number that logits are divided by, so that probabilities are as high as they are right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from scipy.optimize import minimize_scalar
from torch import Tensor

from medseg.geometry.grid import reorient
from medseg.inference.case_logits import CaseLogits
from medseg.labels import IGNORE, LabelTable

BOUNDS = (1 / 8, 8.0)
"""Range of temperatures; beyond it, the cells say little about it (they may all be right)."""
_BINS = 15
_DRAWS = 16  # positions that are drawn for each cell that is wanted, as some are not labelled


@dataclass(frozen=True)
class Cells:
    """Some labelled cells of a case.

    Attributes:
        logits: Of each cell.
        truth: 1 for its class, or for each region that it belongs to; else 0.
    """

    logits: Float[Tensor, "n k"]
    truth: Float[Tensor, "n k"]


def labelled_cells(
    logits: CaseLogits,
    label: Int[np.ndarray, " *s"],
    valid: Bool[np.ndarray, " *s"],
    *,
    most: int,
    rng: np.random.Generator,
) -> Cells:
    """Cells of a case that are drawn at random from those with a label; memory grows with their number alone.

    Args:
        logits: Of the case; its rows are used up.
        label: Training index of each cell, or ``IGNORE``.
        valid: Cells with data.
        most: Number of cells.
        rng: Draws them.
    """

    def in_box(cells: Shaped[np.ndarray, " *s"]) -> Shaped[np.ndarray, " *b"]:
        return np.moveaxis(reorient(cells, logits.axes, logits.flips)[logits.box.slices], logits.axis, 0)

    truth, counted = in_box(label), in_box(valid)
    place = np.unravel_index(_drawn(counted, truth, most, rng), truth.shape)
    parts = []
    for slab in logits.rows:
        own = (place[0] >= slab.row) & (place[0] < slab.stop)
        at: Any = (slice(None), *(torch.from_numpy(axis[own]) for axis in (place[0] - slab.row, *place[1:])))
        parts.append(slab.logits.cpu()[at].T.float())
    classes = torch.from_numpy(truth[place].astype(np.int64))
    return Cells(torch.cat(parts), _one_hot(classes, logits.labels))


def _drawn(
    valid: Bool[np.ndarray, " *b"], truth: Int[np.ndarray, " *b"], most: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Positions of labelled cells in the flat array, in order."""
    every = truth.size <= _DRAWS * most
    flat = np.arange(truth.size) if every else np.unique(rng.integers(truth.size, size=_DRAWS * most))
    place = np.unravel_index(flat, truth.shape)
    flat = flat[valid[place] & (truth[place] != IGNORE)]
    return flat if len(flat) <= most else np.sort(rng.choice(flat, most, replace=False))


def _one_hot(classes: Int[Tensor, " n"], labels: LabelTable) -> Float[Tensor, "n k"]:
    if not labels.regions:
        return F.one_hot(classes, labels.n_classes).float()
    return torch.stack([torch.isin(classes, torch.tensor(r.members)) for r in labels.regions], dim=1).float()


def nll(cells: Cells, temperature: float, labels: LabelTable) -> Float[Tensor, " n"]:
    """Negative log-likelihood of each cell, in nats: of its class, or summed over regions, which are independent.

    Example:
        >>> table = LabelTable.declare({"background": 0, "liver": 1})
        >>> nll(Cells(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])), 1.0, table)
        tensor([0.6931])
    """
    logits = cells.logits / temperature
    if labels.regions:
        return F.binary_cross_entropy_with_logits(logits, cells.truth, reduction="none").sum(1)
    return -(cells.truth * logits.log_softmax(1)).sum(1)


def confidence(cells: Cells, temperature: float, labels: LabelTable) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Probability of what is decided, and 1 where that is right: of each cell, or of each cell and region."""
    logits = cells.logits / temperature
    if labels.regions:
        prob = logits.sigmoid().ravel()
        return torch.maximum(prob, 1 - prob), ((prob > 0.5) == cells.truth.ravel().bool()).float()
    prob, decided = logits.softmax(1).max(1)
    return prob, cells.truth.gather(1, decided[:, None])[:, 0]


def ece(prob: Float[Tensor, " m"], right: Float[Tensor, " m"], bins: int = _BINS) -> float:
    """Expected calibration error: the mean distance between probability and share of right decisions, over bins.

    Args:
        prob: Probability of each decision.
        right: Whether it is right.
        bins: Number of bins of equal width in [0, 1], weighted by their number of decisions.

    References:
        Guo et al., On calibration of modern neural networks, 2017.

    Example:
        >>> round(ece(torch.tensor([0.9, 0.9, 0.9, 0.9]), torch.tensor([1.0, 1.0, 1.0, 0.0])), 6)
        0.15
    """
    number = (prob.double() * bins).long().clamp(max=bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add(0, number, prob.double() - right.double())
    return round(float(gap.abs().sum()) / max(1, len(prob)), 12)


def fit_temperature(cells: Cells, labels: LabelTable) -> float:
    """The temperature of least mean ``nll``, within ``BOUNDS``; the search is over its logarithm (Brent, bounded).

    The mean is convex in the inverse temperature, so there is one minimum.
    """
    low, high = (math.log(bound) for bound in BOUNDS)
    best = minimize_scalar(
        lambda t: float(nll(cells, math.exp(t), labels).double().mean()), bounds=(low, high), method="bounded"
    )
    return math.exp(float(best.x))


def calibrated(cases: Mapping[str, Cells], labels: LabelTable) -> dict[str, Any] | None:
    """The temperature of all cells, and what it brings on cases that it was not fitted on.

    For the figures ``after``, the cases are split into two halves, each of which is scored at the temperature of the
    other. If that does not lower the mean ``nll``, the temperature is 1.

    Args:
        cases: Cells of each case.
        labels: What logits mean.

    Returns:
        ``temperature``, ``nll`` and ``ece`` before and after, number of cases and cells; None with less than two cases.
    """
    parts = [cells for _, cells in sorted(cases.items()) if len(cells.logits)]
    halves = [_together(half) for half in (parts[::2], parts[1::2]) if half]
    if len(halves) < 2:
        return None
    other = [fit_temperature(half, labels) for half in reversed(halves)]
    before, after = (_scores(halves, at, labels) for at in ([1.0, 1.0], other))
    gains = after["nll"] < before["nll"]
    return {
        "temperature": round(fit_temperature(_together(parts), labels), 6) if gains else 1.0,
        **{name: {"before": before[name], "after": after[name]} for name in before},
        "cases": len(parts),
        "cells": sum(len(cells.logits) for cells in parts),
        "after": "each half of the cases at the temperature of the other half",
    }


def _together(parts: Sequence[Cells]) -> Cells:
    return Cells(torch.cat([cells.logits for cells in parts]), torch.cat([cells.truth for cells in parts]))


def _scores(halves: Sequence[Cells], temperatures: Sequence[float], labels: LabelTable) -> dict[str, float]:
    """Scores of all cells, each half at its temperature."""
    pairs = list(zip(halves, temperatures, strict=True))
    losses = torch.cat([nll(cells, temperature, labels) for cells, temperature in pairs])
    prob, right = (torch.cat(part) for part in zip(*(confidence(*pair, labels) for pair in pairs), strict=True))
    return {"nll": round(float(losses.double().mean()), 6), "ece": round(ece(prob, right), 6)}
