"""Overlap: soft counts of true and false cells of each class, and the losses that are functions of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.partial import annotated_mean, annotated_rows
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, or_one, soft_target, target_of


@dataclass(frozen=True)
class SoftCounts:
    """Sums over the counted cells of each image, or of the batch, for each class or region.

    Attributes:
        both: Probability in labelled cells: true positives. Of soft labels, the smaller one of probability and share.
        predicted: Probability in all cells.
        labelled: Labelled cells; of soft labels, the sum of the shares.
        cells: Counted cells, the same for all classes.
        annotated: Which classes or regions enter a mean; None for all.
    """

    both: Float[Tensor, "n k"]
    predicted: Float[Tensor, "n k"]
    labelled: Float[Tensor, "n k"]
    cells: Float[Tensor, "n k"]
    annotated: Bool[Tensor, "n k"] | None = None

    def foreground(self) -> SoftCounts:
        """Without the first class."""
        annotated = None if self.annotated is None else self.annotated[:, 1:]
        return SoftCounts(self.both[:, 1:], self.predicted[:, 1:], self.labelled[:, 1:], self.cells[:, 1:], annotated)

    def mean(self, values: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Mean of a value of each class over those that are annotated."""
        return annotated_mean(values, self.annotated)


def class_counts(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    batch: bool = False,
    gather: bool = False,
) -> SoftCounts:
    """Soft counts of the softmax of ``logits``.

    Ignored and invalid cells leave the sums *after* the softmax: masking logits alone would leave a probability of 1/k
    in each of them. Half precision is computed and summed in float32.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        batch: Sum over the cells of all images, as if they were one.
        gather: With ``batch``, of the images of all ranks, see ``sum_over_ranks``.
    """
    one_hot = label.new_ones(logits.shape[1]).diag().bool()
    return share_counts(logits, target_of(label, one_hot), counted_cells(label, valid), batch=batch, gather=gather)


def share_counts(
    logits: Float[Tensor, "b k *s"],
    target: Bool[Tensor, "b k *s"] | Float[Tensor, "b k *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    batch: bool = False,
    gather: bool = False,
) -> SoftCounts:
    """Soft counts of the softmax of ``logits`` and of soft labels, or of one class in each cell; see ``class_counts``.

    Args:
        logits: Unnormalised class scores.
        target: Share of each class in each cell.
        counted: False where a cell is ignored or invalid.
        batch: Sum over the cells of all images.
        gather: With ``batch``, of the images of all ranks, see ``sum_over_ranks``.
    """
    prob = blank_uncounted(logits, counted).softmax(dim=1)
    return _counts(prob, target, counted, batch=batch, gather=gather)


def region_counts(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"] | Float[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    batch: bool = False,
    gather: bool = False,
) -> SoftCounts:
    """Soft counts of the sigmoid of ``logits``; else as ``class_counts``.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region; of soft labels the share of observers who say so.
        counted: False where a cell is ignored or invalid.
        batch: Sum over the cells of all images.
        gather: With ``batch``, of the images of all ranks, see ``sum_over_ranks``.
    """
    prob = blank_uncounted(logits, counted).sigmoid()
    return _counts(prob, target, counted, batch=batch, gather=gather)


def _counts(
    prob: Float[Tensor, "b k *s"],
    target: Bool[Tensor, "b k *s"] | Float[Tensor, "b k *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    batch: bool,
    gather: bool,
) -> SoftCounts:
    """The sums.

    With a product of probability p and share q, twice ``both`` by the sum of both would be largest at p = 1 in cells
    with q > 1/2; with the smaller one it is largest, 1, at p = q. For shares of 0 and 1 both are the same.

    References:
        Wang et al., Dice Semimetric Losses: Optimizing the Dice Score with Soft Labels, MICCAI 2023 (DML 1).
    """
    axes = [i for i in range(prob.ndim) if i != 1 and (i > 0 or batch)]
    prob = prob * counted[:, None]
    if target.dtype == torch.bool:
        target = target & counted[:, None]
        both = prob * target
    else:
        target = target.to(prob.dtype) * counted[:, None]
        both = torch.minimum(prob, target)
    sums = torch.stack([both.sum(axes), prob.sum(axes), target.sum(axes).to(prob.dtype)])
    cells = counted[:, None].sum(axes).to(prob.dtype)
    sums = sum_over_ranks(torch.cat((sums, cells.expand_as(sums[:1]))), gather=gather and batch)
    return SoftCounts(*(sums[:, None] if batch else sums))


class OverlapLoss(nn.Module, ABC):
    """A loss of soft counts: softmax classes, or sigmoid regions if the table has any; a subclass defines ``cost``.

    The mean goes over the images that have a counted cell; with none in the batch the loss is 0 and so is its
    gradient. In training the batch is that of all ranks.

    Attributes:
        labels: Meaning of the outputs.
        smooth: Pseudo-count, in cells; positive.
        batch: Counts of the batch, as of one image, instead of the mean of the images' losses.
        background: Let the background, class 0, count as well. Without effect on regions and on tables without a
            background, of which every class counts.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated", "soft")
    members: Tensor

    def __init__(self, labels: LabelTable, name: str, *, smooth: float, batch: bool, background: bool) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            name: Name of the loss, for messages.
            smooth: Pseudo-count, in cells.
            batch: Counts of the batch.
            background: Let class 0 count.

        Raises:
            InputError: ``smooth`` is not positive.
        """
        super().__init__()
        if not smooth > 0:
            raise InputError(f"loss {name}: smooth must be positive (an absent class would give 0/0), got {smooth}")
        self.labels, self.smooth, self.batch, self.background = labels, smooth, batch, background
        self.register_buffer("members", memberships(labels), persistent=False)

    @abstractmethod
    def cost(self, counts: SoftCounts) -> Float[Tensor, " n"]:
        """Loss of each image, of the classes that count; finite without counted cells too."""

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
        soft: Float[Tensor, "b n *s"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of a batch; ``label`` holds training indices or ``IGNORE``, also for regions."""
        settings: Any = {"batch": self.batch, "gather": self.training}
        counted = counted_cells(label, valid)
        if self.labels.regions:
            target = target_of(label, self.members) if soft is None else soft_target(soft, self.members)
            counts = region_counts(logits, target, counted, **settings)
        elif soft is not None:
            counts = share_counts(logits, soft, counted, **settings)
        else:
            counts = class_counts(logits, label, valid, **settings)
        counts = replace(counts, annotated=annotated_rows(annotated, counted, **settings))
        if self.labels.background and not (self.labels.regions or self.background):
            counts = counts.foreground()
        lost = self.cost(counts)
        present = counts.cells[:, 0] > 0
        if self.batch:  # one image, which is that of all ranks already
            return (lost * present).sum()
        images = sum_over_ranks(present.to(lost.dtype).sum(), gather=self.training)
        return sum_over_ranks((lost * present).sum(), gather=self.training) / or_one(images)
