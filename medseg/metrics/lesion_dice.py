"""Dice score of single lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from medseg.metrics.lesion import LesionMetric
from medseg.metrics.metric import ratio
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class LesionDice(LesionMetric):
    r"""Mean Dice of single lesions, where missed and false ones count with 0.

    .. math:: \sum_i \frac{2 |L_i \cap P_i|}{|L_i| + |P_i|} / (\text{labelled} + \text{false})

    with P_i the predicted lesions that match the labelled lesion L_i, together.

    References:
        The lesion-wise Dice of BraTS 2023, which dilates the labelled lesions before it divides them; here they are
        divided as they are.
    """

    name = "lesion_dice"
    title = "lesion Dice"
    description = "mean Dice of single lesions with what matches them; missed and false lesions count with 0"

    def parts(self, measured: Structure) -> Real[np.ndarray, "2"]:
        """Sum of the Dice scores, and number of labelled and false lesions."""
        lesions = self.lesions(measured)
        dice = 2 * lesions.shared / (lesions.shared + lesions.united)
        return np.array([dice[lesions.hit].sum(), lesions.counted.sum() + lesions.false.sum()], dtype=np.float64)

    def from_parts(self, parts: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The mean."""
        return ratio(parts[..., 0], parts[..., 1])
