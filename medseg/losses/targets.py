"""What a loss compares with: which cells count, and which outputs each cell belongs to."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.labels import IGNORE, LabelTable


def counted_cells(label: Int[Tensor, "b *s"], valid: Bool[Tensor, "b *s"]) -> Bool[Tensor, "b *s"]:
    """True where a cell counts: it is valid and its class is known."""
    return valid & (label != IGNORE)


def blank_uncounted(logits: Float[Tensor, "b k *s"], counted: Bool[Tensor, "b *s"]) -> Float[Tensor, "b k *s"]:
    """``logits`` in float32, zero in cells that do not count, where the gradient is zero too.

    This alone does not mask a loss: zero logits still have probability 1/k (or 1/2) each, so every
    loss leaves these cells out of its sums as well. It keeps infinities and NaN of such cells from
    reaching the result as ``0 * inf``, forward or backward.
    """
    return torch.where(counted[:, None], logits.float(), 0.0)


def memberships(labels: LabelTable) -> Bool[Tensor, "k n"]:
    """Which classes (columns, n) each output of the network (rows, k) stands for.

    The region matrix of a table with regions, else the identity.
    """
    if labels.regions:
        return torch.from_numpy(labels.region_matrix())
    return torch.eye(labels.n_classes, dtype=torch.bool)


def target_of(label: Int[Tensor, "b *s"], members: Bool[Tensor, "k n"]) -> Bool[Tensor, "b k *s"]:
    """Which outputs each cell belongs to; ignored cells look like class 0, so use it with ``counted_cells``.

    Example:
        >>> target_of(torch.tensor([[0, 2, 1]]), torch.tensor([[False, True, True], [False, False, True]])).int()
        tensor([[[0, 1, 1],
                 [0, 1, 0]]], dtype=torch.int32)
    """
    return members.T[label.clamp(min=0).long()].movedim(-1, 1)
