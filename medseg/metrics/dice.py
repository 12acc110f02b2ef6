"""Dice score of a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medseg.metrics.metric import CountMetric, ratio
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import WORST_0


@dataclass(frozen=True)
class Dice(CountMetric):
    """Twice the common cells by the cells of both, which is F1 too."""

    name = "dice"
    title = "Dice"
    description = "2 TP / (2 TP + FP + FN)"
    empty = WORST_0

    def value(self, n: Counts) -> Any:
        """``2 tp / (2 tp + fp + fn)`` in [0, 1]."""
        return ratio(2 * n.tp, 2 * n.tp + n.fp + n.fn)
