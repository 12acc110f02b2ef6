"""Focal loss, of softmax classes and of sigmoid regions: cross-entropy that neglects what is sure already."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import cell_cross_entropy, mean_of_regions, ratio, region_cell_cross_entropy
from medseg.losses.targets import classes_or_regions, counted_cells, memberships, output_weights


def focal(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    gamma: float = 2.0,
    weight: Float[Tensor, " k"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean negative log-probability of the labelled class, each cell scaled by how unsure it is; in nats.

    .. math:: - \sum_s w_{g_s} (1 - p_s(g_s))^\gamma \log p_s(g_s) / \sum_s w_{g_s}

    over the counted cells s of the whole batch, with p the softmax of ``logits`` and g the ``label``. The
    mean divides by all counted cells, also the sure ones. Cross-entropy for gamma = 0. Zero, with zero
    gradient, where no cell counts. Half precision is computed in float32.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        gamma: Strength of focusing, not negative.
        weight: Weight w of each class, not negative; 1 if absent.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Value in [0, inf). Differentiable in ``logits``.

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017 (of sigmoids, divided by the cells of
        objects; this is its softmax form, divided by all).
    """
    counted = counted_cells(label, valid)
    loss = cell_cross_entropy(logits, label, counted)
    loss = unsureness(loss) ** gamma * loss
    each = counted.float() if weight is None else weight[label.clamp(min=0).long()] * counted
    return ratio((each * loss).sum(), each.sum(), gather=gather)


def region_focal(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    gamma: float = 2.0,
    weight: Float[Tensor, " r"] | None = None,
    annotated: Bool[Tensor, "b r"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    """Focal loss of binary decisions, mean over counted cells and regions; else as ``focal``.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region.
        counted: False where a cell is ignored or invalid.
        gamma: Strength of focusing, not negative.
        weight: Weight of each region, not negative; 1 if absent.
        annotated: Which regions count in each image; None for all.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    loss = region_cell_cross_entropy(logits, target, counted)
    return mean_of_regions(unsureness(loss) ** gamma * loss, counted, weight, annotated=annotated, gather=gather)


def unsureness(loss: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """One minus the probability whose negative logarithm is ``loss``; see ``above_zero``."""
    return above_zero(-torch.expm1(-loss))


def above_zero(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Values kept above the smallest normal number, where powers below 1 have a finite gradient still."""
    return values.clamp(min=torch.finfo(values.dtype).tiny)


class FocalLoss(nn.Module):
    """Mean focal loss of counted cells: softmax classes, or sigmoid regions if the table has any.

    In training it is the mean over the cells of all ranks.

    Attributes:
        labels: Meaning of the outputs.
        gamma: Strength of focusing.
        weight: Weight of each output; None if all are 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated",)
    members: Tensor
    weight: Tensor | None

    def __init__(
        self, labels: LabelTable, *, gamma: float = 2.0, class_weights: Mapping[str, float] | None = None
    ) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            gamma: Strength of focusing; 0 is cross-entropy.
            class_weights: Weight by class name (with regions: region name); 1 for those not named.

        Raises:
            InputError: A name is unknown, or gamma or a weight is negative.
        """
        super().__init__()
        if not gamma >= 0:
            raise InputError(f"loss focal: gamma must not be negative, got {gamma}")
        self.labels, self.gamma = labels, gamma
        weight = output_weights(labels, class_weights, loss="focal")
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        return classes_or_regions(
            focal, region_focal, logits, label, valid, labels=self.labels, members=self.members,
            annotated=annotated, gamma=self.gamma, weight=self.weight, gather=self.training,
        )  # fmt: skip
