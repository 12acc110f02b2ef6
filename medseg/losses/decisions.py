"""Decisions: what a network decides in each cell, so that one formula serves softmax classes and sigmoid regions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.targets import blank_uncounted, counted_cells, memberships, output_weights, target_of


@dataclass(frozen=True)
class Decisions:
    """What a network decides in each cell, and what the label says.

    Classes are one decision (n = 1) among m = k outcomes, the classes. Regions are n = r decisions between m = 2
    outcomes, outside and inside.

    Attributes:
        logits: One for each class or region, 0 in cells that do not count.
        log_prob: Log-probability of each outcome; in cells that do not count that of zero logits.
        outcome: The labelled outcome; 0 in cells that do not count.
        counted: True where a cell counts.
        weight: Weight of each decision, that of its class or region; 0 in cells that do not count.
        annotated: Which classes a patch annotates: others are outcomes that no cell has (``losses.partial``). None for
            all, and of regions, whose weight is 0 where they are not annotated.
    """

    logits: Float[Tensor, "b k *s"]
    log_prob: Float[Tensor, "b n m *s"]
    outcome: Int[Tensor, "b n *s"]
    counted: Bool[Tensor, "b *s"]
    weight: Float[Tensor, "b n *s"]
    annotated: Bool[Tensor, "b m"] | None = None

    def labelled(self) -> Float[Tensor, "b n *s"]:
        """Log-probability of the labelled outcome."""
        return self.log_prob.gather(2, self.outcome[:, :, None]).squeeze(2)

    def target(self) -> Float[Tensor, "b n m *s"]:
        """One for the labelled outcome, zero for others and in cells that do not count."""
        one_hot = functional.one_hot(self.outcome, self.log_prob.shape[2]).movedim(-1, 2)
        return one_hot.to(self.log_prob.dtype) * self.counted[:, None, None]

    def possible(self) -> Float[Tensor, "b n m *s"]:
        """One for each outcome that is possible, zero for classes that a patch does not annotate."""
        if self.annotated is None:
            return torch.ones_like(self.log_prob)
        b, m = self.annotated.shape
        return (
            self.annotated.to(self.log_prob.dtype)
            .view(b, 1, m, *[1] * (self.counted.ndim - 1))
            .expand_as(self.log_prob)
        )

    def mean(self, cost: Float[Tensor, "b n *s"], *, gather: bool) -> Float[Tensor, ""]:
        """Weighted mean of what each decision costs, over counted cells; 0 if there is none.

        Args:
            cost: Finite everywhere; without effect in cells that do not count.
            gather: Take the cells of all ranks, see ``sum_over_ranks``.
        """
        return ratio((cost * self.weight).sum(), self.weight.sum(), gather=gather)


def decide_classes(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " k"] | None = None,
) -> Decisions:
    """One decision in each cell, among classes.

    Args:
        logits: Unnormalised class scores.
        label: Class of each cell, in [0, k), or ``IGNORE``.
        valid: False where a cell does not count.
        weight: Weight of each class; 1 if absent.
    """
    counted = counted_cells(label, valid)
    blanked = blank_uncounted(logits, counted)
    log_prob = blanked.log_softmax(dim=1)
    outcome = torch.where(counted, label, 0).long()
    weight = log_prob.new_ones(logits.shape[1]) if weight is None else weight.to(log_prob.dtype)
    return Decisions(blanked, log_prob[:, None], outcome[:, None], counted, (weight[outcome] * counted)[:, None])


def decide_regions(
    logits: Float[Tensor, "b r *s"],
    target: Bool[Tensor, "b r *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    weight: Float[Tensor, " r"] | None = None,
) -> Decisions:
    """A decision in each cell for each region, between outside and inside.

    Args:
        logits: One score per region; regions may overlap.
        target: True where a cell belongs to a region.
        counted: False where a cell is ignored or invalid.
        weight: Weight of each region; 1 if absent.
    """
    blanked = blank_uncounted(logits, counted)
    log_prob = torch.stack((functional.logsigmoid(-blanked), functional.logsigmoid(blanked)), dim=2)
    outcome = (target & counted[:, None]).long()
    weight = blanked.new_ones(logits.shape[1]) if weight is None else weight.to(blanked.dtype)
    by_region = weight.view(-1, *[1] * (logits.ndim - 2)) * counted[:, None]
    return Decisions(blanked, log_prob, outcome, counted, by_region)


class DecisionLoss(nn.Module, ABC):
    """Weighted mean, over counted cells, of what each decision costs; a subclass defines ``cost``.

    Half precision is computed in float32. In training the mean is over the cells of all ranks.

    Attributes:
        labels: Meaning of the outputs.
        weight: Weight of each output; None if all are 1.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated",)
    members: Tensor
    weight: Tensor | None

    def __init__(self, labels: LabelTable, name: str, class_weights: Mapping[str, float] | None = None) -> None:
        """Set up.

        Args:
            labels: Meaning of the outputs.
            name: Name of the loss, for messages.
            class_weights: Weight by class name (with regions: region name); 1 for those not named.

        Raises:
            InputError: A name is unknown, or a weight is negative.
        """
        super().__init__()
        self.labels = labels
        self.register_buffer("weight", output_weights(labels, class_weights, loss=name), persistent=False)
        self.register_buffer("members", memberships(labels), persistent=False)

    @abstractmethod
    def cost(self, decisions: Decisions) -> Float[Tensor, "b n *s"]:
        """What each decision costs, in nats; finite in cells that do not count too."""

    def decisions(
        self, logits: Float[Tensor, "b k *s"], label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]
    ) -> Decisions:
        """The decisions of a batch: of classes, or of regions if the table has any."""
        if not self.labels.regions:
            return decide_classes(logits, label, valid, weight=self.weight)
        target, counted = target_of(label, self.members), counted_cells(label, valid)
        return decide_regions(logits, target, counted, weight=self.weight)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in nats; ``label`` holds training indices or ``IGNORE``, also for regions."""
        decisions = self.annotated_decisions(logits, label, valid, annotated)
        return decisions.mean(self.cost(decisions), gather=self.training)

    def annotated_decisions(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None,
    ) -> Decisions:
        """The decisions of a batch, with what patches do not annotate."""
        decisions = self.decisions(logits, label, valid)
        if annotated is None:
            return decisions
        if not self.labels.regions:
            return replace(decisions, annotated=annotated)
        by_region = annotated.view(*annotated.shape, *[1] * (label.ndim - 1))
        return replace(decisions, weight=decisions.weight * by_region)
