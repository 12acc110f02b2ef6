"""Signed volume error of a structure, relative to its labelled volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from medseg.metrics.metric import CountMetric, ratio
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import EmptyPolicy


@dataclass(frozen=True)
class RelativeVolumeBias(CountMetric):
    """Predicted less labelled volume, by the labelled volume: -0.1 where a tenth is lacking.

    A false structure has no labelled volume; it costs 1, which is as far from 0 as a missed one (-1, as the formula
    gives). Errors of opposite sign cancel in its mean.
    """

    name = "relative_volume_bias"
    title = "relative volume bias"
    description = (
        "predicted less labelled volume by labelled volume, (FP - FN) / (TP + FN); errors of opposite sign cancel"
    )
    range = (-1.0, math.inf)
    larger_is_better = None
    empty = EmptyPolicy(missed=-1.0, false=1.0)

    def value(self, n: Counts) -> Any:
        """``(fp - fn) / (tp + fn)``."""
        return ratio(n.fp - n.fn, n.tp + n.fn)
