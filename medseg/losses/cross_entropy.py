"""Cross-entropy, of softmax classes and of sigmoid regions."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.labels import IGNORE, LabelTable
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, or_one, output_weights, target_of


def cross_entropy(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean negative log-probability of the labelled class, in nats.

    .. math:: - \sum_s w_{g_s} \log p_s(g_s) / \sum_s w_{g_s}

    over the counted cells s of the whole batch, with p the softmax of ``logits`` and g the ``label``.
    Zero, with zero gradient, where no cell counts. Half precision is computed in float32.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        weight: Weight w of each class, not negative; 1 if absent.

    Returns:
        Value in [0, inf). Differentiable in ``logits``.
    """
    counted = counted_cells(label, valid)
    known = torch.where(counted, label, IGNORE).long()
    total = functional.cross_entropy(
        blank_uncounted(logits, counted), known, weight=weight, ignore_index=IGNORE, reduction="sum"
    )
    weights = counted.float() if weight is None else weight[known.clamp(min=0)] * counted
    return total / or_one(weights.sum())


def region_cross_entropy(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " r"] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean binary cross-entropy over counted cells and regions, in nats.

    .. math:: - \sum_{s,r} w_r (g_{sr} \log p_{sr} + (1 - g_{sr}) \log (1 - p_{sr})) / \sum_{s,r} w_r

    with p the sigmoid of ``logits`` and g the ``target``; else as ``cross_entropy``.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region.
        counted: False where a cell is ignored or invalid.
        weight: Weight w of each region, not negative; 1 if absent.
    """
    weight = logits.new_ones(logits.shape[1], dtype=torch.float32) if weight is None else weight
    each = functional.binary_cross_entropy_with_logits(
        blank_uncounted(logits, counted), target.float(), reduction="none"
    )
    by_region = (each * counted[:, None]).sum([i for i in range(each.ndim) if i != 1])
    return (by_region * weight).sum() / or_one(counted.float().sum() * weight.sum())


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy of counted cells: softmax classes, or sigmoid regions if the table has any.

    Attributes:
        labels: Meaning of the outputs.
        weight: Weight of each output; None if all are 1.
    """

    members: Tensor
    weight: Tensor | None

    def __init__(self, labels: LabelTable, *, class_weights: Mapping[str, float] | None = None) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            class_weights: Weight by class name (with regions: region name); 1 for those not named.

        Raises:
            BadInput: A name is unknown, or a weight is negative.
        """
        super().__init__()
        self.labels = labels
        weight = output_weights(labels, class_weights, loss="cross_entropy")
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self, logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        if not self.labels.regions:
            return cross_entropy(logits, label, valid, weight=self.weight)
        target = target_of(label, self.members)
        return region_cross_entropy(logits, target, counted_cells(label, valid), weight=self.weight)
