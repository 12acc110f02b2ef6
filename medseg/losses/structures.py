"""Structures of a batch, each class or region with its labelled cells; the base of the losses that compare them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.labels import LabelTable
from medseg.losses.partial import annotated_mean, annotated_rows
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, target_of


class Structures(NamedTuple):
    """The structures of a batch, in the order of ``LabelTable.targets``.

    Attributes:
        prob: Probability of each structure, in float32; 0 where a cell does not count.
        target: True where a cell belongs to a structure; false where a cell does not count.
        counted: Whether each cell counts.
        scores: Logits of all outputs, in float32; 0 where a cell does not count.
        annotated: Which structures each image annotates; None where every image annotates all.
    """

    prob: Float[Tensor, "b n *s"]
    target: Bool[Tensor, "b n *s"]
    counted: Bool[Tensor, "b *s"]
    scores: Float[Tensor, "b k *s"]
    annotated: Bool[Tensor, "b n"] | None = None

    def mean(self, values: Float[Tensor, " n"], *, gather: bool) -> Float[Tensor, ""]:
        """Mean of a value of each structure of the whole batch, over the structures that some image annotates.

        Args:
            values: One for each structure.
            gather: Take the batch of all ranks, see ``sum_over_ranks``.
        """
        return annotated_mean(values[None], annotated_rows(self.annotated, self.counted, batch=True, gather=gather))[0]


def counted_in_structures(
    counted: Bool[Tensor, "b *s"], annotated: Bool[Tensor, "b n"] | None, n: int
) -> Bool[Tensor, "b n *s"]:
    """Cells that count for each of n structures: counted ones of images that annotate it."""
    cells = counted[:, None].expand(-1, n, *counted.shape[1:])
    return cells if annotated is None else cells & annotated.view(*annotated.shape, *[1] * (counted.ndim - 1))


def structures_of(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    annotated: Bool[Tensor, "b k"] | None = None,
    *,
    labels: LabelTable,
    members: Bool[Tensor, "k n"],
) -> Structures:
    """Regions, or the classes without the background (all classes of a table that has none).

    Args:
        logits: One score per class, or per region.
        label: Training index of each cell, or ``IGNORE``, also for regions.
        valid: False where a cell does not count.
        annotated: Which outputs each image annotates; None for all.
        labels: Meaning of the outputs.
        members: Result of ``memberships`` for them, on the device of ``label``.
    """
    counted = counted_cells(label, valid)
    scores = blank_uncounted(logits, counted)
    prob = scores.sigmoid() if labels.regions else scores.softmax(dim=1)
    first = int(labels.background and not labels.regions)
    target = target_of(label, members)[:, first:] & counted[:, None]
    own = None if annotated is None else annotated[:, first:]
    return Structures(torch.where(counted[:, None], prob[:, first:], 0.0), target, counted, scores, own)


class StructureLoss(nn.Module, ABC):
    """A loss of the structures of a batch: softmax classes without the background, or sigmoid regions if there are any.

    A subclass says what the structures cost. It is computed at full resolution only, as shapes are others on a coarser
    grid and expensive; in training it is that of the patches of all ranks.

    Attributes:
        labels: Meaning of the outputs.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated",)
    finest: ClassVar[bool] = True
    members: Tensor

    def __init__(self, labels: LabelTable) -> None:
        super().__init__()
        self.labels = labels
        self.register_buffer("members", memberships(labels), persistent=False)

    @abstractmethod
    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """The loss of a batch."""

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of a batch; ``label`` holds training indices or ``IGNORE``, also for regions."""
        return self.cost(structures_of(logits, label, valid, annotated, labels=self.labels, members=self.members))
