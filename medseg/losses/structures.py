"""Structures of a batch: the probability and the labelled cells of each class or region that a loss scores."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.labels import LabelTable
from medseg.losses.partial import annotated_mean, annotated_rows
from medseg.losses.targets import blank_uncounted, counted_cells, target_of


class Structures(NamedTuple):
    """The structures of a batch, in the order of ``LabelTable.targets``.

    Attributes:
        prob: Probability of each structure, in float32; 0 where a cell does not count.
        target: True where a cell belongs to a structure; false where a cell does not count.
        counted: Whether each cell counts.
    """

    prob: Float[Tensor, "b n *s"]
    target: Bool[Tensor, "b n *s"]
    counted: Bool[Tensor, "b *s"]


def mean_of_batch(
    values: Float[Tensor, " n"],
    annotated: Bool[Tensor, "b k"] | None,
    counted: Bool[Tensor, "b *s"],
    *,
    gather: bool,
) -> Float[Tensor, ""]:
    """Mean of a value of each structure over the structures that some image annotates; of all where it is None.

    Args:
        values: Of the whole batch, in the order of ``Structures``.
        annotated: Which outputs each image annotates.
        counted: Whether each cell counts.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.
    """
    rows = annotated_rows(annotated, counted, batch=True, gather=gather)
    return annotated_mean(values[None], None if rows is None else rows[:, -len(values) :])[0]


def annotated_structures(annotated: Bool[Tensor, "b k"] | None, prob: Float[Tensor, "b n *s"]) -> Bool[Tensor, "b n"]:
    """Which structures each image annotates, of all outputs that it does; every one where that is None."""
    n = prob.shape[1]
    return prob.new_ones(prob.shape[:2], dtype=torch.bool) if annotated is None else annotated[:, -n:]


def structure_cells(counted: Bool[Tensor, "b *s"], shown: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Number of counted cells, once for each structure that their image annotates."""
    return (counted.flatten(1).float().sum(dim=1) * shown.sum(dim=1)).sum()


def structures_of(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    labels: LabelTable,
    members: Bool[Tensor, "k n"],
) -> Structures:
    """Regions, or the classes without the background (all classes of a table that has none).

    Args:
        logits: One score per class, or per region.
        label: Training index of each cell, or ``IGNORE``, also for regions.
        valid: False where a cell does not count.
        labels: Meaning of the outputs.
        members: Result of ``memberships`` for them, on the device of ``label``.
    """
    counted = counted_cells(label, valid)
    blanked = blank_uncounted(logits, counted)
    prob = blanked.sigmoid() if labels.regions else blanked.softmax(dim=1)
    first = int(labels.background and not labels.regions)
    target = target_of(label, members)[:, first:] & counted[:, None]
    return Structures(torch.where(counted[:, None], prob[:, first:], 0.0), target, counted)
