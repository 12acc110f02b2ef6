"""Accuracy of a case over its cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.metrics.metric import CaseMetric, Pooled, ratio
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class Accuracy(CaseMetric, Pooled):
    """Share of the counted cells, of all classes together, that have the right class."""

    name = "accuracy"
    title = "accuracy"
    description = "share of the counted cells that have the right class"
    counts_classes = False

    def measure(self, measured: CaseCells) -> float:
        """In [0, 1]; NaN without a counted cell."""
        return float(ratio(int(measured.confusion.trace()), int(measured.confusion.sum())))

    def parts(self, measured: CaseCells) -> Int[np.ndarray, "1 2"]:
        """Right cells, and counted cells."""
        return np.array([[measured.confusion.trace(), measured.confusion.sum()]], dtype=np.int64)

    def from_parts(self, parts: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The ratio of the two."""
        return ratio(parts[..., 0], parts[..., 1])
