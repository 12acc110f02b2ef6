"""What scores of probabilities have in common that are means over the cells of a case."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.metrics import probabilities
from medseg.metrics.metric import CaseMetric, Pooled, ratio
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class MeanOfCells(CaseMetric, Pooled):
    """A mean over the counted cells of a case, or of all cases together."""

    range = (0.0, math.inf)
    larger_is_better = False
    counts_classes = False
    needs_prob = True

    def measure(self, measured: CaseCells) -> float:
        """NaN without a counted cell."""
        return float(self.from_parts(self.parts(measured))[0])

    @abstractmethod
    def parts(self, measured: CaseCells) -> Float[np.ndarray, "1 2"]:
        """Sum over all cells, and number of cells; see ``sums``."""

    def from_parts(self, parts: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The ratio of the two."""
        return ratio(parts[..., 0], parts[..., 1])


def sums(measured: CaseCells, column: int) -> Float[np.ndarray, "1 2"]:
    """One of the first two sums of ``probabilities.scores``, and the number of cells; computed once for all metrics."""
    return measured.shared("prob_scores", lambda: probabilities.scores(measured))[None, [column, 2]]
