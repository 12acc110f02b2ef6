"""Recognition quality of instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics.object_metric import share
from medseg.metrics.panoptic import PanopticMetric, sums_of


@dataclass(frozen=True)
class Rq(PanopticMetric):
    """F1 of instances: matches by the mean number of predicted and labelled instances."""

    name = "rq"
    title = "RQ"
    description = "recognition quality: F1 of instances that match above an IoU of 0.5"

    def from_parts(self, parts: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
        """Matches by the mean number of instances."""
        n = sums_of(parts)
        return share(n.matched, (n.labelled + n.predicted) / 2, n.labelled + n.predicted)
