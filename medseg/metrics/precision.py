"""Precision of a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medseg.metrics.metric import CountMetric, ratio
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import WORST_0


@dataclass(frozen=True)
class Precision(CountMetric):
    """Share of the predicted cells that are labelled: the positive predictive value."""

    name = "precision"
    title = "precision"
    description = "share of the predicted cells that are labelled, TP / (TP + FP)"
    empty = WORST_0

    def value(self, n: Counts) -> Any:
        """``tp / (tp + fp)`` in [0, 1]; NaN if none is predicted."""
        return ratio(n.tp, n.tp + n.fp)
