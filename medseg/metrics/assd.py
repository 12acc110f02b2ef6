"""Average symmetric surface distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medseg.metrics.metric import DistanceMetric
from medseg.metrics.structure import Structure
from medseg.metrics.surface import SurfaceDistances


@dataclass(frozen=True)
class Assd(DistanceMetric):
    """Mean distance to the other surface, over the cells of both surfaces together."""

    name = "assd"
    title = "ASSD"
    description = "average symmetric surface distance: the mean over the cells of both surfaces together"

    def measure(self, measured: Structure) -> float:
        """In the unit of the grid."""
        return assd(measured.distances)


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance: the mean over the cells of both surfaces together.

    NaN unless both structures exist.
    """
    pooled = np.concatenate(distances)
    return float(pooled.mean()) if pooled.size else math.nan
