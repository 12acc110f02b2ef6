"""Negative log-likelihood of a case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.metrics.mean_of_cells import MeanOfCells, sums
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class Nll(MeanOfCells):
    """Mean over cells of the negative logarithm of the probability of what is right, in nats.

    Of the class of each cell; with regions the sum over these, each in or out. A probability below 1.2e-7 counts as
    that, so that one cell costs 16 nats at most (``log_loss`` of scikit-learn does the same in float32).
    """

    name = "nll"
    title = "negative log-likelihood"
    description = (
        "mean over cells of the negative log-likelihood of their class, in nats; probabilities are cut at 1.2e-7"
    )

    def parts(self, measured: CaseCells) -> Float[np.ndarray, "1 2"]:
        """Negative log-likelihoods of all cells, and number of cells."""
        return sums(measured, 1)
