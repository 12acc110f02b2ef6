"""Brier score of a case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.metrics.mean_of_cells import MeanOfCells, sums
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class Brier(MeanOfCells):
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

    def parts(self, measured: CaseCells) -> Float[np.ndarray, "1 2"]:
        """Squared errors of all cells, and number of cells."""
        return sums(measured, 0)
