"""F1 score of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medseg.metrics.metric import CountMetric, ratio
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import WORST_0


@dataclass(frozen=True)
class F1(CountMetric):
    """Harmonic mean of precision and recall: the Dice score, by the name that it has for scenes."""

    name = "f1"
    title = "F1"
    description = "harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); equal to Dice"
    empty = WORST_0

    def value(self, n: Counts) -> Any:
        """``2 tp / (2 tp + fp + fn)`` in [0, 1]."""
        return ratio(2 * n.tp, 2 * n.tp + n.fp + n.fn)
