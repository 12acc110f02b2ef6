"""95th percentile of the Hausdorff distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medseg.metrics.metric import DistanceMetric
from medseg.metrics.structure import Structure
from medseg.metrics.surface import SurfaceDistances


@dataclass(frozen=True)
class Hd95(DistanceMetric):
    """The larger of the two directed 95th percentiles of the distances between surfaces."""

    name = "hd95"
    title = "HD95"
    description = "95th percentile of the distances between the surfaces, the larger of the two directions"

    def measure(self, measured: Structure) -> float:
        """In the unit of the grid."""
        return hd95(measured.distances)


def hd95(distances: SurfaceDistances) -> float:
    """95th percentile of the Hausdorff distance: the larger of the two directed 95th percentiles.

    Percentiles interpolate linearly. NaN unless both structures exist.
    """
    if not distances.to_label.size:
        return math.nan
    return float(max(np.percentile(directed, 95) for directed in distances))
