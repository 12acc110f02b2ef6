"""What panoptic, segmentation and recognition quality have in common: instances matched above an IoU of one half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics.object_metric import ObjectMetric
from medseg.metrics.structure import Structure

_IOU = 0.5


class PanopticSums(NamedTuple):
    """Numbers of instances, or arrays of them: matched, labelled, predicted; and the sum of the IoU of the matches."""

    matched: Real[np.ndarray, "*n"]
    labelled: Real[np.ndarray, "*n"]
    predicted: Real[np.ndarray, "*n"]
    iou: Real[np.ndarray, "*n"]


@dataclass(frozen=True)
class PanopticMetric(ObjectMetric):
    """A metric of instances that match if their intersection over union is more than 0.5, which is one to one.

    References:
        Kirillov et al., Panoptic Segmentation, CVPR 2019; instances are connected components here, so that touching
        instances of one class are one.
    """

    def parts(self, measured: Structure) -> Float[np.ndarray, "4"]:
        """``PanopticSums`` of a structure."""
        objects = self.matches(measured, iou=_IOU, strict=True)
        iou = (objects.shared / objects.united)[objects.hit].sum()
        predicted = objects.right.sum() + objects.false.sum()
        return np.array([objects.hit.sum(), objects.counted.sum(), predicted, iou], dtype=np.float64)


def sums_of(parts: Real[np.ndarray, "*n 4"]) -> PanopticSums:
    """The numbers of ``parts``."""
    return PanopticSums(*np.moveaxis(np.asarray(parts), -1, 0))
