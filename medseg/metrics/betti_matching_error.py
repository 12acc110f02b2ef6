"""Betti matching error: components, loops and cavities without a partner in the same place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medseg.metrics.betti_error import FEATURES
from medseg.metrics.metric import ClassMetric
from medseg.metrics.policy import EmptyPolicy
from medseg.metrics.structure import Structure
from medseg.metrics.surface import box_of
from medseg.topology.matching import compiled, match_features


@dataclass(frozen=True)
class BettiMatchingError(ClassMetric):
    """Number of components, loops and cavities of prediction or label that the other does not have in that place.

    See ``medseg.topology.matching.match_pairs``. The costs of missed and false structures are what the formula
    gives.

    References:
        Stucki et al., Topologically Faithful Image Segmentation via Induced Matching of Persistence Barcodes, ICML
        2023; components are matched by place without exception here, see ``match_pairs``.
    """

    name = "betti_matching_error"
    title = "Betti matching error"
    description = (
        "components, loops and cavities of prediction or label without a partner in the same place; needs "
        "medseg[topology], and a second for 64³ voxels"
    )
    range = (0.0, math.inf)
    larger_is_better = False
    empty = EmptyPolicy(FEATURES, FEATURES)

    def check(self) -> None:
        """Raise an InputError if ``topolosses`` is not installed."""
        compiled()

    def measure(self, measured: Structure) -> float:
        """A whole number."""
        box = box_of(measured.pred | measured.label)
        pred, label = (mask[box].astype(np.float64) for mask in (measured.pred, measured.label))
        return float(sum(match_features(pred, label).unmatched))
