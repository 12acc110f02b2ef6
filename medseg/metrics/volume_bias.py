"""Signed volume error of a structure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medseg.metrics.metric import ClassMetric, Unit
from medseg.metrics.policy import MINUS_VOLUME, VOLUME, EmptyPolicy
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class VolumeBias(ClassMetric):
    """Predicted less labelled volume (area in 2D): below 0 where too little is predicted.

    It says nothing of place. Errors of opposite sign cancel in its mean, that is what a bias is: a missed and a false
    structure of one size together have none. ``volume_error`` is the mean of the absolute values. The costs of missed
    and false structures are what the formula gives.
    """

    name = "volume_bias"
    title = "volume bias"
    description = (
        "predicted less labelled volume (area in 2D), wherever they are; errors of opposite sign cancel in its mean"
    )
    unit = Unit.VOLUME
    range = (-math.inf, math.inf)
    larger_is_better = None
    empty = EmptyPolicy(MINUS_VOLUME, VOLUME)

    def measure(self, measured: Structure) -> float:
        """In the unit of the grid to the power of d."""
        return (measured.counts.fp - measured.counts.fn) * measured.cell_volume
