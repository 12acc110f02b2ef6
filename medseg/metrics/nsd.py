"""Normalised surface Dice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medseg.errors import InputError
from medseg.metrics.metric import ClassMetric, setting
from medseg.metrics.policy import WORST_0
from medseg.metrics.structure import Structure
from medseg.metrics.surface import SurfaceDistances


@dataclass(frozen=True)
class Nsd(ClassMetric):
    """Share of both surfaces' cells within a tolerance of the other surface.

    Attributes:
        tolerance: Largest distance that is no error, in the unit of the grid; inclusive.
    """

    name = "nsd"
    title = "NSD"
    description = "normalised surface Dice: share of both surfaces within nsd_tolerance of the other surface"
    empty = WORST_0
    lengths = ("tolerance",)

    tolerance: float = setting(1.0, key="nsd_tolerance")

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise InputError(f"metrics: nsd_tolerance must be a distance >= 0, got {self.tolerance}")

    def measure(self, measured: Structure) -> float:
        """In [0, 1]."""
        return nsd(measured.distances, self.tolerance)


def nsd(distances: SurfaceDistances, tolerance: float) -> float:
    """Normalised surface Dice: share of both surfaces' cells within ``tolerance`` of the other surface.

    Args:
        distances: Result of ``surface_distances``.
        tolerance: Largest distance that is no error, in the unit of the spacing; inclusive.

    Returns:
        Value in [0, 1]; NaN unless both structures exist.

    References:
        Nikolov et al., Clinically applicable segmentation of head and neck anatomy, 2021 (by area; here by cell).
    """
    near = tolerance * (1 + 1e-6)  # distances are float32: a step of 0.7 must be within a tolerance of 0.7
    pooled = np.concatenate(distances)
    return float((pooled <= near).mean()) if pooled.size else math.nan
