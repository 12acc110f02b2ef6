"""Precision of lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics import lesion
from medseg.metrics.lesion import LesionMetric


@dataclass(frozen=True)
class LesionPrecision(LesionMetric):
    """Share of the predicted lesions that match a labelled one."""

    name = "lesion_precision"
    title = "lesion precision"
    description = "share of the predicted lesions (connected components) that match a labelled one, see lesion_overlap"

    def from_parts(self, parts: Real[np.ndarray, "*n q"]) -> Float[np.ndarray, "*n"]:
        """Right lesions by predicted ones."""
        return lesion.precision(lesion.counts_of(parts))
