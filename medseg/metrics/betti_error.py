"""Betti error: difference of the numbers of components, loops and cavities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from medseg.metrics.metric import ClassMetric
from medseg.metrics.policy import CaseCost, EmptyPolicy
from medseg.metrics.structure import Structure
from medseg.metrics.surface import box_of
from medseg.topology.betti import betti_numbers

FEATURES = CaseCost(
    "number of its components, loops and cavities",
    lambda structure: float(sum(_numbers(structure.label) if structure.is_labelled else _numbers(structure.pred))),
)
"""What is wrong with nothing where the structure is, or with the structure where nothing is."""


@dataclass(frozen=True)
class BettiError(ClassMetric):
    """Sum over dimensions of the absolute difference of the Betti numbers of prediction and label.

    It says nothing of place: a component elsewhere is no error. Pixels or voxels are connected across faces. The costs
    of missed and false structures are what the formula gives.
    """

    name = "betti_error"
    title = "Betti error"
    description = "difference of the numbers of components, loops and cavities, wherever they are"
    range = (0.0, math.inf)
    larger_is_better = False
    empty = EmptyPolicy(FEATURES, FEATURES)

    def measure(self, measured: Structure) -> float:
        """A whole number."""
        pairs = zip(_numbers(measured.pred), _numbers(measured.label), strict=True)
        return float(sum(abs(ours - theirs) for ours, theirs in pairs))


def _numbers(mask: Bool[np.ndarray, " *s"]) -> tuple[int, ...]:
    """Betti numbers of a mask that is not empty, of which most is around it."""
    return betti_numbers(mask[box_of(mask)])
