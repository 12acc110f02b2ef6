"""Cross-entropy, of softmax classes and of sigmoid regions."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.labels import IGNORE, LabelTable
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import (
    blank_uncounted,
    classes_or_regions,
    counted_cells,
    memberships,
    or_one,
    output_weights,
    soft_target,
)


def cross_entropy(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " k"] | None = None,
    gather: bool = False,
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
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Value in [0, inf). Differentiable in ``logits``.
    """
    counted = counted_cells(label, valid)
    target = torch.where(counted, label, IGNORE).long()
    total = functional.cross_entropy(
        blank_uncounted(logits, counted), target, weight=weight, ignore_index=IGNORE, reduction="sum"
    )
    weights = counted.float() if weight is None else weight[target.clamp(min=0)] * counted
    return ratio(total, weights.sum(), gather=gather)


def soft_cross_entropy(
    logits: Float[Tensor, "b k *s"],
    soft: Float[Tensor, "b k *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " k"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean cross-entropy of soft labels and softmax probabilities, in nats.

    .. math:: - \sum_{s,k} w_k q_{sk} \log p_{sk} / \sum_{s,k} w_k q_{sk}

    with q the ``soft`` labels: the mean over observers of their cross-entropies where each labels every cell. That of
    hard labels where observers agree. Else as ``cross_entropy``.

    Args:
        logits: Unnormalised class scores.
        soft: Share of each class in each cell; they sum to 1 in counted cells.
        counted: False where a cell is ignored or invalid.
        weight: Weight w of each class, not negative; 1 if absent.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    log_prob = blank_uncounted(logits, counted).log_softmax(dim=1)
    share = soft.to(log_prob) * counted[:, None]
    if weight is not None:
        share = share * weight.view(-1, *[1] * (logits.ndim - 2))
    cells = counted.float().sum() if weight is None else share.sum()
    return ratio(-(share * log_prob).sum(), cells, gather=gather)


def region_cross_entropy(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"] | Float[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " r"] | None = None,
    annotated: Bool[Tensor, "b r"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean binary cross-entropy over counted cells and regions, in nats.

    .. math:: - \sum_{s,r} w_r (g_{sr} \log p_{sr} + (1 - g_{sr}) \log (1 - p_{sr})) / \sum_{s,r} w_r

    with p the sigmoid of ``logits`` and g the ``target``; else as ``cross_entropy``.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region; of soft labels the share of observers who say so.
        counted: False where a cell is ignored or invalid.
        weight: Weight w of each region, not negative; 1 if absent.
        annotated: Which regions count in each image; None for all.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    loss = region_cell_cross_entropy(logits, target, counted)
    return mean_of_regions(loss, counted, weight, annotated=annotated, gather=gather)


def cell_cross_entropy(
    logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], counted: Bool[Tensor, "b *s"]
) -> Float[Tensor, "b *s"]:
    """Negative log-probability of the labelled class in each cell, in nats; 0 in cells that do not count."""
    target = torch.where(counted, label, IGNORE).long()
    return functional.cross_entropy(blank_uncounted(logits, counted), target, ignore_index=IGNORE, reduction="none")


def region_cell_cross_entropy(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"] | Float[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
) -> Float[Tensor, "b r *s"]:
    """Negative log-probability of being in, or outside, each region, as labelled; 0 in cells that do not count."""
    blanked = blank_uncounted(logits, counted)
    each = functional.binary_cross_entropy_with_logits(blanked, target.to(blanked.dtype), reduction="none")
    return each * counted[:, None]


def mean_of_regions(
    loss: Float[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    weight: Float[Tensor, " r"] | None,
    *,
    annotated: Bool[Tensor, "b r"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    """Weighted mean of what each cell costs in each region, 0 where it does not count; 0 if no cell counts.

    Regions that an image does not annotate cost nothing there, and do not count either.
    """
    weight = loss.new_ones(loss.shape[1]) if weight is None else weight
    by_region = loss.sum([i for i in range(loss.ndim) if i != 1])
    return ratio((by_region * weight).sum(), region_cells(counted, weight, annotated), gather=gather)


def region_cells(
    counted: Bool[Tensor, "b *s"], weight: Float[Tensor, " r"], annotated: Bool[Tensor, "b r"] | None
) -> Float[Tensor, ""]:
    """Sum of the weights of the regions over counted cells, of regions that an image annotates."""
    if annotated is None:
        return counted.float().sum() * weight.sum()
    return (counted.flatten(1).float().sum(dim=1) * (annotated * weight).sum(dim=1)).sum()


def ratio(total: Float[Tensor, ""], cells: Float[Tensor, ""], *, gather: bool) -> Float[Tensor, ""]:
    """``total / cells``, of all ranks with ``gather``; 0 where ``cells`` is 0, as then no cell counts."""
    total, cells = sum_over_ranks(torch.stack([total, cells]), gather=gather)
    return total / or_one(cells)


class CrossEntropyLoss(nn.Module):
    """Mean cross-entropy of counted cells: softmax classes, or sigmoid regions if the table has any.

    In training it is the mean over the cells of all ranks.

    Attributes:
        labels: Meaning of the outputs.
        weight: Weight of each output; None if all are 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated", "soft")
    members: Tensor
    weight: Tensor | None

    def __init__(self, labels: LabelTable, *, class_weights: Mapping[str, float] | None = None) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            class_weights: Weight by class name (with regions: region name); 1 for those not named.

        Raises:
            InputError: A name is unknown, or a weight is negative.
        """
        super().__init__()
        self.labels = labels
        weight = output_weights(labels, class_weights, loss="cross_entropy")
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("members", memberships(labels), persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
        soft: Float[Tensor, "b n *s"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        if soft is not None:
            counted = counted_cells(label, valid)
            settings: Any = {"weight": self.weight, "gather": self.training}
            if self.labels.regions:
                return region_cross_entropy(logits, soft_target(soft, self.members), counted, **settings)
            return soft_cross_entropy(logits, soft, counted, **settings)
        return classes_or_regions(
            cross_entropy, region_cross_entropy, logits, label, valid, labels=self.labels, members=self.members,
            annotated=annotated, weight=self.weight, gather=self.training,
        )  # fmt: skip
