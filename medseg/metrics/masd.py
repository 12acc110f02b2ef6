"""Mean average surface distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medseg.metrics.metric import DistanceMetric
from medseg.metrics.structure import Structure
from medseg.metrics.surface import SurfaceDistances


@dataclass(frozen=True)
class Masd(DistanceMetric):
    """Mean of the two directed mean distances: both surfaces weigh the same, however many cells they have.

    ``assd`` is the mean over the cells of both surfaces together, so that the larger surface weighs more.

    References:
        Maier-Hein et al., Metrics reloaded, Nature Methods 2024, which tells the two apart.
    """

    name = "masd"
    title = "MASD"
    description = (
        "mean average surface distance: the mean of the two directed means, so that both surfaces weigh the same"
    )

    def measure(self, measured: Structure) -> float:
        """In the unit of the grid."""
        return masd(measured.distances)


def masd(distances: SurfaceDistances) -> float:
    """Mean of the two directed mean distances; NaN unless both structures exist."""
    return float(sum(directed.mean() for directed in distances) / 2) if distances.to_label.size else math.nan
