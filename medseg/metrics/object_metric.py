"""What metrics of single objects, lesions or instances, have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.errors import InputError
from medseg.metrics.metric import ClassMetric, Pooled, setting
from medseg.metrics.objects import CONNECTIVITY, Matches, Overlaps, match, overlaps_of
from medseg.metrics.policy import WORST_0
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class ObjectMetric(ClassMetric, Pooled):
    """A metric of the objects of a structure, which are its connected components.

    Its value is 0 where there are labelled objects or false ones, and none of the others; NaN where there are neither.
    Cells that do not count belong to no object: they may divide one.

    Attributes:
        connectivity: Which cells touch: across ``faces``, or across ``corners`` as well.
        min_volume: Volume (area in 2D) from which an object counts, in the unit of the grid to the power of d.
    """

    empty = WORST_0

    connectivity: str = setting("corners", key="object_connectivity")
    min_volume: float = setting(0.0, key="object_min_volume")

    def __post_init__(self) -> None:
        if self.connectivity not in CONNECTIVITY:
            raise InputError(
                f"metrics: object_connectivity must be {' or '.join(CONNECTIVITY)}, got {self.connectivity}"
            )
        if not self.min_volume >= 0:
            raise InputError(f"metrics: object_min_volume must be a volume >= 0, got {self.min_volume}")

    def measure(self, measured: Structure) -> float:
        """In [0, 1]; also of a structure that is missed or false, as sizes decide which objects count."""
        return float(self.from_parts(self.parts(measured)[None])[0])

    def score(self, structure: Structure) -> float:
        """As ``measure``."""
        return self.measure(structure)

    def overlaps(self, structure: Structure) -> Overlaps:
        """The objects of a structure."""
        return structure.shared(
            ("overlaps", self.connectivity), lambda: overlaps_of(structure.pred, structure.label, self.connectivity)
        )

    def least_cells(self, structure: Structure) -> float:
        """Cells from which an object counts."""
        return self.min_volume / structure.cell_volume * (1 - 1e-9)

    def matches(self, structure: Structure, *, iou: float, strict: bool = False) -> Matches:
        """Right and false objects; see ``objects.match``."""
        least = self.least_cells(structure)
        return structure.shared(
            ("matches", self.connectivity, least, iou, strict),
            lambda: match(self.overlaps(structure), least, iou=iou, strict=strict),
        )


def share(
    part: Real[np.ndarray, "*n"], whole: Real[np.ndarray, "*n"], some: Real[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    """``part / whole``; 0 where the whole is 0 and there is something, NaN where there is nothing.

    Args:
        part: Numerator.
        whole: Denominator.
        some: Number of all objects, labelled and predicted.

    Example:
        >>> share(np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0]), np.array([3.0, 1.0, 0.0])).tolist()
        [0.5, 0.0, nan]
    """
    value = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
    return np.where(np.asarray(some) > 0, value, np.nan)
