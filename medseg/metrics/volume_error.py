"""Absolute volume error of a structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.metrics.metric import ClassMetric, Unit
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import VOLUME, EmptyPolicy
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class VolumeError(ClassMetric):
    """Absolute difference of predicted and labelled volume (area in 2D).

    It says nothing of place: a structure of the right size in the wrong place has no error. The costs of missed and
    false structures are what the formula gives.
    """

    name = "volume_error"
    title = "absolute volume error"
    description = "absolute difference of predicted and labelled volume (area in 2D), wherever they are"
    unit = Unit.VOLUME
    range = (0.0, math.inf)
    larger_is_better = False
    empty = EmptyPolicy(VOLUME, VOLUME)

    def measure(self, measured: Structure) -> float:
        """In the unit of the grid to the power of d."""
        return volume_error(measured.counts, measured.case.spacing)


def volume_error(n: Counts, spacing: Sequence[float]) -> float:
    """Absolute difference of predicted and labelled volume, in the unit of ``spacing`` to the power of d."""
    return abs(n.fp - n.fn) * float(np.prod(spacing))
