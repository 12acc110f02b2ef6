"""Hausdorff distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medseg.metrics.metric import DistanceMetric
from medseg.metrics.structure import Structure
from medseg.metrics.surface import SurfaceDistances


@dataclass(frozen=True)
class Hd(DistanceMetric):
    """The largest distance from a cell of one surface to the other surface; a single cell far away decides it."""

    name = "hd"
    title = "HD"
    description = "Hausdorff distance: the largest distance from a cell of one surface to the other surface"

    def measure(self, measured: Structure) -> float:
        """In the unit of the grid."""
        return hd(measured.distances)


def hd(distances: SurfaceDistances) -> float:
    """Hausdorff distance: the larger of the two directed maxima; NaN unless both structures exist."""
    return float(max(directed.max() for directed in distances)) if distances.to_label.size else math.nan
