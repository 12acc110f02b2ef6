"""Segmentation quality of instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics.object_metric import share
from medseg.metrics.panoptic import PanopticMetric, sums_of


@dataclass(frozen=True)
class Sq(PanopticMetric):
    """Mean IoU of the matched instances; 0 where there are instances, but no match."""

    name = "sq"
    title = "SQ"
    description = "segmentation quality: mean IoU of the matched instances; 0 without a match"

    def from_parts(self, parts: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
        """Sum of IoU by the number of matches."""
        n = sums_of(parts)
        return share(n.iou, n.matched, n.labelled + n.predicted)
