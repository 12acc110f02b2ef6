"""F1 of lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics import lesion
from medseg.metrics.lesion import LesionMetric
from medseg.metrics.object_metric import share


@dataclass(frozen=True)
class LesionF1(LesionMetric):
    """Harmonic mean of ``lesion_precision`` and ``lesion_sensitivity``; all lesions weigh the same, large or small."""

    name = "lesion_f1"
    title = "lesion F1"
    description = "harmonic mean of lesion precision and lesion sensitivity"

    def from_parts(self, parts: Real[np.ndarray, "*n q"]) -> Float[np.ndarray, "*n"]:
        """The harmonic mean."""
        n = lesion.counts_of(parts)
        precision, sensitivity = lesion.precision(n), lesion.sensitivity(n)
        return share(2 * precision * sensitivity, precision + sensitivity, n.labelled + n.predicted)
