"""Foreground-aware loss: cross-entropy whose gradient goes to the cells that are hard, whatever their number."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import cell_cross_entropy, ratio, region_cell_cross_entropy, region_cells
from medseg.losses.focal import unsureness
from medseg.losses.ranks import largest_of_ranks, sum_over_ranks
from medseg.losses.targets import classes_or_regions, counted_cells, memberships


def foreground_aware(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    gamma: float = 2.0,
    focus: float = 1.0,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean cross-entropy in value; in gradient, a mean in which hard cells weigh more. In nats.

    .. math:: \sum_s v_s l_s / n, \quad v_s = 1 - \zeta + \zeta h_s / Z, \quad
        h_s = (1 - p_s(g_s))^\gamma, \quad Z = \sum_s h_s l_s / \sum_s l_s

    over the n counted cells s of the whole batch, with p the softmax of ``logits``, g the ``label``,
    l = -log p(g) and zeta = ``focus``. The weights v are constants to the gradient, and Z makes them
    preserve the sum of l: focusing moves the gradient from the easy background to what is hard and does
    not shrink it, as the focal loss does. Zero, with zero gradient, where no cell counts. Half precision
    is computed in float32.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        gamma: Strength of focusing, not negative; 0 is cross-entropy.
        focus: Share of focusing, zeta in [0, 1]; 0 is cross-entropy.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Value in [0, inf), equal to the cross-entropy. Differentiable in ``logits``.

    References:
        Zheng et al., Foreground-Aware Relation Network for Geospatial Object Segmentation, CVPR 2020. Their share
        of focusing rises over the training, see ``annealed``; here it is the caller's.
    """
    counted = counted_cells(label, valid)
    loss = cell_cross_entropy(logits, label, counted)
    return ratio(_focused_sum(loss, gamma, focus, gather=gather), counted.sum().float(), gather=gather)


def region_foreground_aware(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    gamma: float = 2.0,
    focus: float = 1.0,
    annotated: Bool[Tensor, "b r"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    """Of binary decisions, mean over counted cells and regions; else as ``foreground_aware``.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region.
        counted: False where a cell is ignored or invalid.
        gamma: Strength of focusing, not negative.
        focus: Share of focusing, in [0, 1].
        annotated: Which regions count in each image; None for all.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    loss = region_cell_cross_entropy(logits, target, counted)
    cells = region_cells(counted, logits.new_ones(logits.shape[1]).float(), annotated)
    return ratio(_focused_sum(loss, gamma, focus, gather=gather), cells, gather=gather)


def _focused_sum(loss: Float[Tensor, "*n"], gamma: float, focus: float, *, gather: bool) -> Float[Tensor, ""]:
    with torch.no_grad():
        unsure = unsureness(loss)
        most = largest_of_ranks(unsure.max(), gather=gather)
        hardness = (unsure / most) ** gamma  # 1/Z takes out the maximum again; no power underflows as a whole
        focused, total = sum_over_ranks(torch.stack([(hardness * loss).sum(), loss.sum()]), gather=gather)
        weight = 1 - focus + focus * torch.where(focused > 0, total / focused, 1.0) * hardness
    return (weight * loss).sum()


def annealed(progress: float, over: float) -> float:
    r"""Share of focusing at this progress of a training: early estimates of what is hard are poor.

    .. math:: (1 - \cos(\pi \min(1, t / T))) / 2

    Args:
        progress: Share t of the budget that is spent.
        over: Share T of the budget over which it rises from 0 to 1; 0: it is 1 throughout.

    References:
        Zheng et al., Foreground-Aware Relation Network for Geospatial Object Segmentation, CVPR 2020: the cosine of
        the three schedules that they compare.

    Example:
        >>> [round(annealed(progress, 0.5), 3) for progress in (0.0, 0.125, 0.25, 0.5, 1.0)]
        [0.0, 0.146, 0.5, 1.0, 1.0]
    """
    return (1 - math.cos(math.pi * min(1.0, progress / over))) / 2 if over > 0 else 1.0


class ForegroundLoss(nn.Module):
    """Foreground-aware loss of counted cells: softmax classes, or sigmoid regions if the table has any.

    In training it is that of the cells of all ranks.

    Attributes:
        labels: Meaning of the outputs.
        gamma: Strength of focusing.
        focus: Share of focusing, with annealing that in the end.
        anneal: Share of the budget over which focusing rises from 0 to ``focus``; 0: it is the same throughout, so
            that a step depends on its batch alone.
        needs: With annealing the progress of the training too.
    """

    members: Tensor

    def __init__(self, labels: LabelTable, *, gamma: float = 2.0, focus: float = 1.0, anneal: float = 0.0) -> None:
        super().__init__()
        if not (gamma >= 0 and 0 <= focus <= 1 and 0 <= anneal <= 1):
            raise InputError(
                "loss foreground: expected gamma >= 0, and focus and anneal in [0, 1], got "
                f"{gamma}, {focus} and {anneal}"
            )
        self.labels, self.gamma, self.focus, self.anneal = labels, gamma, focus, anneal
        self.needs = ("annotated", "progress") if anneal else ("annotated",)
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        focus = self.focus * annealed(progress, self.anneal)
        return classes_or_regions(
            foreground_aware, region_foreground_aware, logits, label, valid, labels=self.labels, members=self.members,
            annotated=annotated, gamma=self.gamma, focus=focus, gather=self.training,
        )  # fmt: skip
