"""Brier score of a case."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.metrics import probabilities
from medseg.metrics.metric import CaseMetric, Pooled, ratio
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class Brier(CaseMetric, Pooled):
    """Mean over cells of the squared distances of probability and truth, summed over the classes, the background too.

    0 is perfect, 2 is a wrong class for certain. With regions it is the sum over these, each in or out.

    References:
        Brier, Verification of forecasts expressed in terms of probability, 1950 (summed over classes, as here).
    """

    name = "brier"
    title = "Brier score"
    description = (
        "Brier score: mean over cells of the squared errors of the probabilities, summed over classes (0 to 2)"
    )
    range = (0.0, math.inf)
    larger_is_better = False
    counts_classes = False
    needs_prob = True

    def measure(self, measured: CaseCells) -> float:
        """NaN without a counted cell."""
        return float(self.from_parts(self.parts(measured))[0])

    def parts(self, measured: CaseCells) -> Float[np.ndarray, "1 2"]:
        """Squared errors of all cells, and number of cells."""
        return measured.shared("prob_scores", lambda: probabilities.scores(measured))[None, [0, 2]]

    def from_parts(self, parts: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The ratio of the two."""
        return ratio(parts[..., 0], parts[..., 1])
