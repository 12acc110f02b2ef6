"""Sensitivity to lesions, of all and by size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.errors import InputError
from medseg.metrics import lesion
from medseg.metrics.lesion import LesionMetric
from medseg.metrics.metric import setting
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class LesionSensitivity(LesionMetric):
    """Share of the labelled lesions that a predicted one matches.

    Attributes:
        sizes: Volumes (areas in 2D) at which lesions are divided by their labelled size, in the unit of the grid to
            the power of d; ``details`` of ``metrics.json`` then has the sensitivity of each range over all cases.
    """

    name = "lesion_sensitivity"
    title = "lesion sensitivity"
    description = "share of the labelled lesions (connected components) that are found, see lesion_overlap"

    sizes: Sequence[float] = setting((), key="lesion_sizes")

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = isinstance(self.sizes, Sequence) and all(isinstance(size, int | float) for size in self.sizes)
        if not listed or not all(low < high for low, high in zip((0, *self.sizes), self.sizes, strict=False)):
            raise InputError(
                f"metrics: lesion_sizes must be increasing volumes > 0, such as [100, 1000], got {self.sizes}"
            )
        object.__setattr__(self, "sizes", tuple(self.sizes))

    def parts(self, measured: Structure) -> Real[np.ndarray, " q"]:
        """``LesionCounts``, then the labelled lesions of each range of sizes, then those of them that are found."""
        lesions, volume = self.lesions(measured), self.overlaps(measured).label_cells * measured.cell_volume
        place, ranges = np.searchsorted(self.sizes, volume, side="right"), len(self.sizes) + 1
        by_size = [np.bincount(place[of], minlength=ranges) for of in (lesions.counted, lesions.hit)]
        return np.concatenate([super().parts(measured), *by_size])

    def from_parts(self, parts: Real[np.ndarray, "*n q"]) -> Float[np.ndarray, "*n"]:
        """Found lesions by labelled ones."""
        return lesion.sensitivity(lesion.counts_of(parts))

    @property
    def has_detail(self) -> bool:
        """Whether there are ranges of sizes."""
        return bool(self.sizes)

    def detail(self, parts: Real[np.ndarray, " q"]) -> list[dict[str, object]]:
        """Labelled and found lesions of each range of sizes; its upper end does not belong to it."""
        labelled, hit = parts[4:].reshape(2, -1).astype(int).tolist()
        ends = [0.0, *map(float, self.sizes), math.inf]
        return [
            {
                "from": ends[i],
                "to": None if math.isinf(ends[i + 1]) else ends[i + 1],
                "labelled": labelled[i],
                "found": hit[i],
                "sensitivity": hit[i] / labelled[i] if labelled[i] else None,
            }
            for i in range(len(labelled))
        ]
