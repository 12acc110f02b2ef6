"""Boundary IoU of a structure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.metrics.metric import ClassMetric, Pooled, ratio, setting
from medseg.metrics.policy import WORST_0
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class BoundaryIou(ClassMetric, Pooled):
    """Intersection over union of the bands along the contours; see ``boundary.boundary_counts``.

    Attributes:
        width: Width of the band: below 1 a share of the diagonal of the array, from 1 on cells.
    """

    name = "boundary_iou"
    title = "boundary IoU"
    description = "IoU of the bands along the contours, boundary_width wide"
    empty = WORST_0

    width: float = setting(0.02, key="boundary_width")

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise InputError(f"metrics: boundary_width must be cells, or a share of the diagonal > 0, got {self.width}")

    def stated(self, labels: LabelTable) -> dict[str, Any] | str:
        """The costs, and the width with its unit."""
        share = f"{100 * self.width:g} % of the diagonal"
        costs = self.empty.stated() | asdict(self)
        return costs | {"width": share if self.width < 1 else f"{self.width:g} cells"}

    def measure(self, measured: Structure) -> float:
        """In [0, 1]."""
        intersection, union = measured.boundary_counts(self.width)
        return intersection / union

    def parts(self, measured: Structure) -> Int[np.ndarray, "2"]:
        """Cells in both bands, and cells in either."""
        return np.array(measured.boundary_counts(self.width), dtype=np.int64)

    def from_parts(self, parts: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The ratio of the two, which is 0 for a missed or a false structure."""
        return ratio(parts[..., 0], parts[..., 1])
