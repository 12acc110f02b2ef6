"""Soft Dice, of softmax classes and of sigmoid regions."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.labels import LabelTable
from medseg.losses.overlap import OverlapLoss, SoftCounts, class_counts, region_counts


def soft_dice(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    smooth: float = 1e-5,
    batch: bool = False,
    gather: bool = False,
) -> Float[Tensor, "n k"]:
    r"""Soft Dice score of each class, in each image or over the whole batch.

    .. math:: (2 \sum_s p_s g_s + \epsilon) / (\sum_s p_s + \sum_s g_s + \epsilon)

    with p the softmax of ``logits``, g the one-hot ``label`` and epsilon = ``smooth``. Ignored and
    invalid cells leave p and g *after* the softmax: masking logits alone would leave 1/k of each of
    them in the denominator. Half precision is computed and summed in float32.

    A class without labelled cells scores epsilon / (sum p + epsilon): near 0 for a small epsilon, so
    that its probability is pressed down, and 1 once the probability is gone.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        smooth: Pseudo-count, in cells. With 0, a class with neither probability nor label is NaN.
        batch: Sum over the cells of all images, as if they were one.
        gather: With ``batch``, of the images of all ranks, see ``sum_over_ranks``.

    Returns:
        Scores in [0, 1], 1 is perfect; n is b, or 1 with ``batch``. Differentiable in ``logits``.

    References:
        Milletari et al., V-Net, 2016 (which squares the terms of the denominator; this does not).
    """
    return _score(class_counts(logits, label, valid, batch=batch, gather=gather), smooth)


def region_dice(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    smooth: float = 1e-5,
    batch: bool = False,
    gather: bool = False,
) -> Float[Tensor, "n r"]:
    """Soft Dice score of each region, with p the sigmoid of ``logits``; else as ``soft_dice``.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region.
        counted: False where a cell is ignored or invalid.
        smooth: Pseudo-count, in cells.
        batch: Sum over the cells of all images.
        gather: With ``batch``, of the images of all ranks, see ``sum_over_ranks``.
    """
    return _score(region_counts(logits, target, counted, batch=batch, gather=gather), smooth)


def _score(counts: SoftCounts, smooth: float) -> Float[Tensor, "n k"]:
    return (2 * counts.both + smooth) / (counts.predicted + counts.labelled + smooth)


class DiceLoss(OverlapLoss):
    """One minus the mean soft Dice score of foreground classes (all regions); see ``soft_dice`` and ``OverlapLoss``.

    nnU-Net's differs by the constant 1.
    """

    def __init__(
        self, labels: LabelTable, *, smooth: float = 1e-5, batch: bool = True, background: bool = False
    ) -> None:
        super().__init__(labels, "dice", smooth=smooth, batch=batch, background=background)

    def cost(self, counts: SoftCounts) -> Float[Tensor, " n"]:
        """One minus the mean score of the classes, in [0, 1]."""
        return counts.mean(1 - _score(counts, self.smooth))
