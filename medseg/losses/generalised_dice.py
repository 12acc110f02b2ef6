"""Generalised Dice: one score for all classes, in which a rare class weighs as much as a frequent one."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.overlap import OverlapLoss, SoftCounts


def generalised_dice(counts: SoftCounts, *, power: float = 2.0, smooth: float = 1e-5) -> Float[Tensor, " n"]:
    r"""Generalised Dice score.

    .. math:: \frac{2 \sum_k w_k \sum p_k g_k + \epsilon}{\sum_k w_k (\sum p_k + \sum g_k) + \epsilon}, \quad
        w_k = (n_0 / \sum g_k)^q

    with n_0 the cells of the rarest class that has any: a common factor of all weights, so that the largest is 1. A
    class without labelled cells, whose weight would be infinite, has the weight of the rarest.

    Args:
        counts: Soft counts.
        power: Exponent q: 2 as published, 1 weighs by volume, and with 0 all cells of all classes weigh alike.
        smooth: Pseudo-count epsilon, in cells of the rarest class.

    Returns:
        Scores in [0, 1], 1 is perfect.

    References:
        Sudre et al., Generalised Dice Overlap as a Deep Learning Loss Function for Highly Unbalanced Segmentations,
        2017 (which does not say what becomes of absent classes).
    """
    cells = torch.where(counts.labelled > 0, counts.labelled, math.inf)
    rarest = cells.amin(dim=1, keepdim=True)
    weight = torch.where(counts.labelled > 0, rarest / cells, 1.0) ** power
    both = (weight * counts.both).sum(dim=1)
    either = (weight * (counts.predicted + counts.labelled)).sum(dim=1)
    return (2 * both + smooth) / (either + smooth)


class GeneralisedDiceLoss(OverlapLoss):
    """One minus the generalised Dice score; see ``generalised_dice``. The background counts, as published.

    Attributes:
        power: Exponent of the weights.
    """

    def __init__(
        self, labels: LabelTable, *, power: float = 2.0, smooth: float = 1e-5, batch: bool = True,
        background: bool = True,
    ) -> None:  # fmt: skip
        if not power >= 0:
            raise InputError(f"loss generalised_dice: power must not be negative, got {power}")
        super().__init__(labels, "generalised_dice", smooth=smooth, batch=batch, background=background)
        self.power = power

    def cost(self, counts: SoftCounts) -> Float[Tensor, " n"]:
        """One minus the score, in [0, 1]."""
        return 1 - generalised_dice(counts, power=self.power, smooth=self.smooth)
