"""Negative log-likelihood of a case."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.metrics import probabilities
from medseg.metrics.metric import CaseMetric, Pooled, ratio
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class Nll(CaseMetric, Pooled):
    """Mean over cells of the negative logarithm of the probability of what is right, in nats.

    Of the class of each cell; with regions the sum over these, each in or out. A probability below 1.2e-7 counts as
    that, so that one cell costs 16 nats at most (``log_loss`` of scikit-learn does the same in float32).
    """

    name = "nll"
    title = "negative log-likelihood"
    description = (
        "mean over cells of the negative log-likelihood of their class, in nats; probabilities are cut at 1.2e-7"
    )
    range = (0.0, math.inf)
    larger_is_better = False
    counts_classes = False
    needs_prob = True

    def measure(self, measured: CaseCells) -> float:
        """NaN without a counted cell."""
        return float(self.from_parts(self.parts(measured))[0])

    def parts(self, measured: CaseCells) -> Float[np.ndarray, "1 2"]:
        """Negative log-likelihoods of all cells, and number of cells."""
        return measured.shared("prob_scores", lambda: probabilities.scores(measured))[None, [1, 2]]

    def from_parts(self, parts: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The ratio of the two."""
        return ratio(parts[..., 0], parts[..., 1])
