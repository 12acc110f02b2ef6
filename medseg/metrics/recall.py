"""Recall of a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medseg.metrics.metric import CountMetric, ratio
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import WORST_0


@dataclass(frozen=True)
class Recall(CountMetric):
    """Share of the labelled cells that are predicted: the sensitivity."""

    name = "recall"
    title = "recall"
    description = "share of the labelled cells that are predicted, TP / (TP + FN)"
    empty = WORST_0

    def value(self, n: Counts) -> Any:
        """``tp / (tp + fn)`` in [0, 1]; NaN if none is labelled."""
        return ratio(n.tp, n.tp + n.fn)
