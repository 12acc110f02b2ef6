"""Intersection over union of a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medseg.metrics.metric import CountMetric, ratio
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import WORST_0


@dataclass(frozen=True)
class Iou(CountMetric):
    """Common cells by the cells of either: the Jaccard index."""

    name = "iou"
    title = "IoU"
    description = "intersection over union, TP / (TP + FP + FN)"
    empty = WORST_0

    def value(self, n: Counts) -> Any:
        """``tp / (tp + fp + fn)`` in [0, 1]."""
        return ratio(n.tp, n.tp + n.fp + n.fn)
