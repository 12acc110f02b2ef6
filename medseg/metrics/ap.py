"""Average precision of instances that have no scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.metrics.metric import ratio
from medseg.metrics.object_metric import ObjectMetric
from medseg.metrics.structure import Structure

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Least IoU of a match: 0.5 to 0.95."""


@dataclass(frozen=True)
class Ap(ObjectMetric):
    r"""Average precision over ten thresholds of the IoU, of instances without scores.

    .. math:: \frac{1}{10} \sum_{t = 0.5, 0.55, ..., 0.95} \frac{TP_t}{TP_t + FP_t + FN_t}

    with matches of an IoU of at least t, each instance once. It is not the area under a curve of precision and recall,
    as in COCO, for which each instance needs a score.

    References:
        The measure of the Data Science Bowl 2018 (Caicedo et al., Nucleus segmentation across imaging experiments,
        Nature Methods 2019), of StarDist and of Cellpose.
    """

    name = "ap"
    title = "AP"
    description = (
        "mean of TP / (TP + FP + FN) of instances (connected components) over the IoU thresholds 0.5, 0.55 ... 0.95"
    )

    def parts(self, measured: Structure) -> Int[np.ndarray, "10 2"]:
        """By threshold, the matches, and all instances with each match once."""
        matches = [self.matches(measured, iou=least) for least in THRESHOLDS]
        return np.array([(f.hit.sum(), f.counted.sum() + f.false.sum()) for f in matches], dtype=np.int64)

    def from_parts(self, parts: Real[np.ndarray, "*n 10 2"]) -> Float[np.ndarray, "*n"]:
        """The mean over the thresholds at which there are instances."""
        values = ratio(parts[..., 0], parts[..., 1])
        defined = ~np.isnan(values)
        return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))
