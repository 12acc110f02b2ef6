"""Deep supervision: the weight of each resolution, and the labels brought to it."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor


def level_weights(n: int) -> tuple[float, ...]:
    """Weight of each of ``n`` levels, fine to coarse: 1/2^i, the coarsest 0 (unless alone), sum 1.

    The coarsest is left out as in nnU-Net: its cells are mostly too large to have one class.

    Example:
        >>> level_weights(3)
        (0.6666666666666666, 0.3333333333333333, 0.0)
    """
    raw = [0.5**i for i in range(n)]
    if n > 1:
        raw[-1] = 0.0
    return tuple(w / sum(raw) for w in raw)


def coarsen(cells: Shaped[Tensor, "b *s"], shape: Sequence[int]) -> Shaped[Tensor, "b *t"]:
    """Values of ``cells`` at the centres of a coarser grid over the same extent.

    Coarse cell i of t takes the fine cell, of s, that holds its centre: ``floor((i + 1/2) s / t)``
    (the upper one of two where the centre lies between them). Nothing is blended or voted, so a
    class, ``IGNORE`` and an invalid cell stay what they are, and label and ``valid`` are sampled at
    the same cells.

    Args:
        cells: Label or valid.
        shape: Spatial shape t.

    Example:
        >>> coarsen(torch.arange(8)[None], [4]).tolist()
        [[1, 3, 5, 7]]
    """
    for axis, (fine, coarse) in enumerate(zip(cells.shape[1:], shape, strict=True), start=1):
        if fine != coarse:
            centre = (2 * torch.arange(coarse, device=cells.device) + 1) * fine // (2 * coarse)
            cells = cells.index_select(axis, centre)
    return cells


def coarsen_shares(soft: Shaped[Tensor, "b n *s"], shape: Sequence[int]) -> Shaped[Tensor, "b n *t"]:
    """Soft labels at the cells that ``coarsen`` takes labels of.

    Args:
        soft: Shares of the classes.
        shape: Spatial shape t.
    """
    return coarsen(soft.flatten(0, 1), shape).unflatten(0, soft.shape[:2])
