"""Panoptic quality of instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics.object_metric import share
from medseg.metrics.panoptic import PanopticMetric, sums_of


@dataclass(frozen=True)
class Pq(PanopticMetric):
    """Sum of the IoU of the matches by the mean number of predicted and labelled instances: ``sq`` times ``rq``."""

    name = "pq"
    title = "PQ"
    description = (
        "panoptic quality of instances (connected components): sum of the IoU of matches by the mean number of "
        "predicted and labelled ones"
    )

    def from_parts(self, parts: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
        """Sum of IoU by the mean number of instances."""
        n = sums_of(parts)
        return share(n.iou, (n.labelled + n.predicted) / 2, n.labelled + n.predicted)
