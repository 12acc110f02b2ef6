"""Soft Dice, of softmax classes and of sigmoid regions."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import blank_uncounted, classes_or_regions, counted_cells, memberships, or_one, target_of


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
    counted = counted_cells(label, valid)
    one_hot = label.new_ones(logits.shape[1]).diag().bool()
    prob = blank_uncounted(logits, counted).softmax(dim=1)
    return _score(prob, target_of(label, one_hot), counted, smooth=smooth, batch=batch, gather=gather)


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
    prob = blank_uncounted(logits, counted).sigmoid()
    return _score(prob, target, counted, smooth=smooth, batch=batch, gather=gather)


def _score(
    prob: Float[Tensor, "b k *s"],
    target: Bool[Tensor, "b k *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    smooth: float,
    batch: bool,
    gather: bool,
) -> Float[Tensor, "n k"]:
    cells = [i for i in range(prob.ndim) if i != 1 and (i > 0 or batch)]
    prob = prob * counted[:, None]
    target = target & counted[:, None]
    sums = torch.stack([(prob * target).sum(cells), prob.sum(cells) + target.sum(cells)])
    both, either = sum_over_ranks(sums, gather=gather and batch)
    score = (2 * both + smooth) / (either + smooth)
    return score[None] if batch else score


class DiceLoss(nn.Module):
    """One minus the mean soft Dice score: softmax classes, or sigmoid regions if the table has any.

    The mean goes over foreground classes (all regions) and over the images that have a counted cell;
    with none in the batch the loss is 0 and so is its gradient. nnU-Net's differs by the constant 1.
    In training the batch is that of all ranks.

    Attributes:
        labels: Meaning of the outputs.
        smooth: Pseudo-count, in cells; positive.
        batch: Dice over the batch instead of the mean of the images' Dice.
        background: Let the background, class 0, count as well. Without effect on regions and on tables
            without a background, of which every class counts.
    """

    members: Tensor

    def __init__(
        self, labels: LabelTable, *, smooth: float = 1e-5, batch: bool = True, background: bool = False
    ) -> None:
        super().__init__()
        if not smooth > 0:
            raise InputError(f"loss dice: smooth must be positive (an absent class would give 0/0), got {smooth}")
        self.labels, self.smooth, self.batch, self.background = labels, smooth, batch, background
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self, logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]
    ) -> Float[Tensor, ""]:
        """Loss in [0, 1]; ``label`` holds training indices or ``IGNORE``, also for regions."""
        counted = counted_cells(label, valid)
        score = classes_or_regions(
            soft_dice, region_dice, logits, label, valid, labels=self.labels, members=self.members,
            smooth=self.smooth, batch=self.batch, gather=self.training,
        )  # fmt: skip
        if self.labels.background and not (self.labels.regions or self.background):
            score = score[:, 1:]
        lost = (1 - score).mean(dim=1)
        present = counted.any()[None] if self.batch else counted.flatten(1).any(dim=1)
        images = sum_over_ranks(present.float().sum(), gather=self.training)
        if self.batch:  # one score, which is that of all ranks already
            return (lost * (images > 0)).sum()
        return sum_over_ranks((lost * present).sum(), gather=self.training) / or_one(images)
