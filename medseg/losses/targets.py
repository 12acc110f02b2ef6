"""What a loss compares with: which cells count, and which outputs each cell belongs to."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import IGNORE, LabelTable

MOST_SETS = 4096
"""Sets of annotated regions that the cells of a table may be in, where its labels are partial."""


def counted_cells(label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]) -> Bool[Tensor, "b *s"]:
    """True where a cell counts: it is valid and its class is known."""
    return valid & (label != IGNORE)


def blank_uncounted(logits: Float[Tensor, "b k *s"], counted: Bool[Tensor, "b *s"]) -> Float[Tensor, "b k *s"]:
    """``logits`` in float32 (or float64, if they are), zero in cells that do not count, where the gradient is zero too.

    This alone does not mask a loss: zero logits still have probability 1/k (or 1/2) each, so every
    loss leaves these cells out of its sums as well. It keeps infinities and NaN of such cells from
    reaching the result as ``0 * inf``, forward or backward.
    """
    return torch.where(counted[:, None], logits if logits.dtype == torch.float64 else logits.float(), 0.0)


def memberships(labels: LabelTable) -> Bool[Tensor, "k n"]:
    """Which classes (columns, n) each output of the network (rows, k) stands for.

    The region matrix of a table with regions, else the identity. After the classes, the table has a column for each of
    ``region_sets``, which partially annotated labels name (``losses.partial``), unless these are too many.
    """
    if not labels.regions:
        return torch.eye(labels.n_classes, dtype=torch.bool)
    members, sets = torch.from_numpy(labels.region_matrix()), region_sets(labels)
    return members if sets is None else torch.cat([members, sets], dim=1)


@cache
def region_sets(labels: LabelTable) -> Bool[Tensor, "r m"] | None:
    """The sets of annotated regions that a cell may be in, a column each; None if they are more than ``MOST_SETS``.

    A cell is in those regions of its class that its case annotates: in a subset of the regions of one class. These are
    far fewer than the subsets of all regions, 2^r. The empty set is the first; the order is that of binary numbers
    whose lowest bit is the first region.

    Example:
        >>> classes = {"background": 0, "whole": [1, 2], "core": 2, "node": 3}
        >>> region_sets(LabelTable.declare(classes, regions_class_order=[1, 2, 3])).int()
        tensor([[0, 1, 0, 1, 0],
                [0, 0, 1, 1, 0],
                [0, 0, 0, 0, 1]], dtype=torch.int32)
    """
    every = {0}
    for column in labels.region_matrix().T:
        own = [1 << int(i) for i in np.flatnonzero(column)]
        if len(own) > MOST_SETS.bit_length():
            return None
        every |= {sum(part) for n in range(len(own) + 1) for part in combinations(own, n)}
        if len(every) > MOST_SETS:
            return None
    bits = range(len(labels.regions))
    return torch.tensor([[one >> i & 1 for one in sorted(every)] for i in bits], dtype=torch.bool)


def _is_weight(value: float | str) -> bool:
    """Whether it is a number of 0 or more; NaN is none."""
    return not isinstance(value, str) and value >= 0


def output_weights(
    labels: LabelTable, class_weights: Mapping[str, float] | str | None, *, loss: str
) -> Float[Tensor, " k"] | None:
    """Weight of each output of the network from weights by name; None without any.

    Args:
        labels: Table with the names of the outputs: regions, or classes without regions.
        class_weights: Weight by name; 1 for those not named. A word that stands for weights from the data is refused:
            a training puts numbers in its place.
        loss: Name of the loss, for messages.

    Raises:
        InputError: A name is unknown, or a weight is negative.
    """
    names = [r.name for r in labels.regions] or list(labels.names)
    if isinstance(class_weights, str):
        raise InputError(f"loss {loss}: class_weights={class_weights}: expected weights by name, as {{{names[-1]}: 2}}")
    weights = dict(class_weights or {})
    wrong = {n: w for n, w in weights.items() if n not in names or not _is_weight(w)}
    if wrong:
        raise InputError(f"loss {loss}: class_weights {wrong}: expected weights >= 0 for names among {names}")
    return torch.tensor([float(weights.get(n, 1.0)) for n in names]) if weights else None


def target_of(label: Int[Tensor, "b *s"], members: Bool[Tensor, "k n"]) -> Bool[Tensor, "b k *s"]:
    """Which outputs each cell belongs to; ignored cells look like class 0, so use it with ``counted_cells``.

    Example:
        >>> target_of(torch.tensor([[0, 2, 1]]), torch.tensor([[False, True, True], [False, False, True]])).int()
        tensor([[[0, 1, 1],
                 [0, 1, 0]]], dtype=torch.int32)
    """
    return members.T[label.clamp(min=0).long()].movedim(-1, 1)


def soft_target(soft: Float[Tensor, "b n *s"], members: Bool[Tensor, "k m"]) -> Float[Tensor, "b k *s"]:
    """Share of each output in each cell: of a class its own, of a region the sum of those of its classes.

    Args:
        soft: Shares of the classes of the table.
        members: Result of ``memberships``, of which the first n columns are those of the classes.

    Example:
        >>> shares = torch.tensor([[[0.5], [0.25], [0.25]]])
        >>> soft_target(shares, torch.tensor([[False, True, True], [False, False, True]])).tolist()
        [[[0.5], [0.25]]]
    """
    of_classes = members[:, : soft.shape[1]].to(soft)
    return torch.einsum("kn,bn...->bk...", of_classes, soft)


def classes_or_regions(
    of_classes: Callable[..., Tensor],
    of_regions: Callable[..., Tensor],
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    *,
    labels: LabelTable,
    members: Bool[Tensor, "k n"],
    annotated: Bool[Tensor, "b k"] | None = None,
    **settings: object,
) -> Tensor:
    """A loss of softmax classes, or that of sigmoid regions if the table has any.

    Args:
        of_classes: Called with logits, label and valid.
        of_regions: Called with logits, target and counted.
        logits: One score per class, or per region.
        label: Training index of each cell, or ``IGNORE``, also for regions.
        valid: False where a cell does not count.
        labels: Meaning of the outputs.
        members: Result of ``memberships`` for them, on the device of ``label``.
        annotated: Which regions each image annotates, for a loss of regions that takes it; None for all.
        settings: Settings of both losses.
    """
    if not labels.regions:
        return of_classes(logits, label, valid, **settings)
    if annotated is not None:
        settings["annotated"] = annotated
    return of_regions(logits, target_of(label, members), counted_cells(label, valid), **settings)


def or_one(total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """``total``, or 1 where it is 0 because no cell counts: what to divide a sum by."""
    return torch.where(total > 0, total, 1.0)
