"""Losses of partially annotated patches: marginal logits and labels, which every term takes as if they were its own.

A case that annotates some classes calls *background* whatever is none of these. Softmax classes: the probabilities
of the background and of the classes that a case does not annotate are one, that of *none of the annotated classes*,
and the others have probability 0. Regions are decisions of their own: one that is not annotated has a constant logit,
and no cell of the label.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.targets import MOST_SETS, blank_uncounted, counted_cells, region_sets

_GONE = 110.0
"""Distance of a logit, in nats, at which its probability is exactly 0 in float32, and its logarithm is finite."""


def marginal_label(
    label: Int[Tensor, "b *s"], annotated: Bool[Tensor, "b k"], labels: LabelTable, *, ignore: bool = False
) -> Int[Tensor, "b *s"]:
    """Labels of partially annotated patches as terms of a loss take them.

    Cells of a class that a case does not annotate become background, or, of a table without a background, do not
    count. Of regions, an index from ``n_classes`` on stands for a set of regions (``memberships``): those of the cell
    that are annotated.

    Args:
        label: Training index of each cell, or ``IGNORE``.
        annotated: Which outputs each patch annotates.
        labels: The label table.
        ignore: Of patches that do not annotate everything, cells of no annotated class do not count.

    Raises:
        InputError: Too many regions.
    """
    per_cell = (-1, *[1] * (label.ndim - 1))
    if labels.regions:
        changed = _region_sets(label, annotated, labels)
        nothing = labels.n_classes
    else:
        own = annotated.gather(1, label.flatten(1).clamp(min=0).long()).view_as(label)
        nothing = 0 if labels.background else IGNORE
        changed = label.masked_fill(~own & (label != IGNORE), nothing)
    partial = ~annotated.all(dim=1).view(per_cell)
    if ignore:
        changed = changed.masked_fill(partial & (changed == nothing), IGNORE)
    return torch.where(partial, changed, label)


def _region_sets(label: Int[Tensor, "b *s"], annotated: Bool[Tensor, "b k"], labels: LabelTable) -> Int[Tensor, "b *s"]:
    """Index of the set of annotated regions of each cell, ``IGNORE`` where there is no label."""
    sets = known_sets(labels)
    members = torch.from_numpy(labels.region_matrix()).to(label.device)
    own = (annotated[:, :, None] & members).float()
    others = sets.to(own)
    shared = torch.einsum("brk,rm->bkm", own, others)
    number = (own.sum(dim=1)[:, :, None] + others.sum(dim=0) - 2 * shared).argmin(dim=2)  # 0 for the same set alone
    index = number.gather(1, label.flatten(1).clamp(min=0).long()).view_as(label) + labels.n_classes
    return torch.where(label == IGNORE, label.long(), index)


def known_sets(labels: LabelTable) -> Bool[Tensor, "r m"]:
    """The sets of annotated regions that a cell may be in (``region_sets``).

    Raises:
        InputError: They are too many.
    """
    sets = region_sets(labels)
    if sets is None:
        most, n = labels.region_matrix().sum(axis=0), len(labels.regions)
        raise InputError(
            f"data.annotated: class {labels.titles[int(most.argmax())]} is in {int(most.max())} of {n} regions, so "
            f"that cells may be in more than {MOST_SETS} sets of annotated ones; expected fewer where cases annotate "
            "some; declare classes in fewer regions, or leave data.annotated out"
        )
    return sets


def marginal_logits(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    annotated: Bool[Tensor, "b k"],
    labels: LabelTable,
) -> Float[Tensor, "b k *s"]:
    r"""Logits of partially annotated patches as terms of a loss take them; those of complete patches are unchanged.

    With U the classes that a case does not annotate and z its logits,

    .. math:: z'_0 = \log \sum_{k \in \{0\} \cup U} e^{z_k}, \quad z'_u = \log \sum_k e^{z_k} - 110

    so that the softmax of z' is the marginal probability of the background and exactly 0 for U, and its logarithm is a
    constant for U. What a loss changes about the merged probability, it changes about its members in proportion to
    their probabilities: which of them a cell is, it does not say. Without a background logits are unchanged: the label
    of a cell rules out all other classes.

    Args:
        logits: Unnormalised class scores, or one score per region.
        label: Result of ``marginal_label``.
        valid: False where a cell does not count.
        annotated: Which outputs each patch annotates.
        labels: The label table.

    References:
        Fang and Yan, Multi-organ segmentation over partially labeled datasets with multi-scale feature abstraction,
        2020; Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation, 2021.
    """
    if not (labels.regions or labels.background):
        return logits
    blank = blank_uncounted(logits, counted_cells(label, valid))
    gone = ~annotated.view(*annotated.shape, *[1] * (logits.ndim - 2))
    if labels.regions:
        return blank.masked_fill(gone, -_GONE)
    merged = gone.clone()
    merged[:, 0] = True
    none = blank.masked_fill(~merged, -torch.inf).logsumexp(dim=1, keepdim=True)
    others = torch.where(gone[:, 1:], blank.logsumexp(dim=1, keepdim=True) - _GONE, blank[:, 1:])
    partial = gone.any(dim=1, keepdim=True)
    return torch.where(partial, torch.cat([none, others], dim=1), blank)


def annotated_rows(
    annotated: Bool[Tensor, "b k"] | None, counted: Bool[Tensor, "b *s"], *, batch: bool, gather: bool = False
) -> Bool[Tensor, "n k"] | None:
    """Outputs that enter a mean of each image, or of the batch: those that some image with a counted cell annotates.

    Args:
        annotated: Which outputs each image annotates; None for all.
        counted: False where a cell does not count.
        batch: One row for the whole batch.
        gather: With ``batch``, of the images of all ranks, see ``sum_over_ranks``.
    """
    if annotated is None or not batch:
        return annotated
    images = counted.flatten(1).any(dim=1)
    return sum_over_ranks((annotated & images[:, None]).float().sum(dim=0), gather=gather)[None] > 0


def annotated_mean(values: Float[Tensor, "n k"], rows: Bool[Tensor, "n k"] | None) -> Float[Tensor, " n"]:
    """Mean of each row over its annotated outputs (``annotated_rows``), 0 if none; of all where there are no rows."""
    if rows is None:
        return values.mean(dim=1)
    return (values * rows).sum(dim=1) / rows.sum(dim=1).clamp(min=1)
