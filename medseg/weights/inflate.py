"""Kernels of images made into kernels of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

How = Literal["centre", "mean"]
NEW_AXIS = -1
"""Volumes lie right, anterior, superior: images are their slices, stacked along the last axis."""


def inflate(
    kernel: Float[Tensor, "o c h w"], size: int, *, how: How = "centre", axis: int = NEW_AXIS
) -> Float[Tensor, "o c x y z"]:
    """A kernel with one spatial axis more, which sees in a volume what the image's kernel sees in its slices.

    On a volume that is constant along the new axis, both give exactly the response of the image's kernel:
    ``centre`` everywhere, whatever the stride, with zero padding of less than half the size; ``mean`` where the
    kernel does not reach into zero padding.

    Args:
        kernel: Of images.
        size: Cells of the new axis.
        how: ``centre``: in the middle cell (the upper of two), zero around it, so that slices are at first seen
            each for itself; ``mean``: repeated and divided by ``size``.
        axis: Which of the three spatial axes is new: 0, 1 or 2, or counted from the end.

    References:
        Carreira and Zisserman, Quo vadis, action recognition?, 2017, which repeats and divides; the centred
        kernel is Girdhar et al., 2018.

    Example:
        >>> inflate(torch.tensor([[[[6.0]]]]), 3).flatten().tolist()
        [0.0, 6.0, 0.0]
        >>> inflate(torch.tensor([[[[6.0]]]]), 3, how="mean").flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    place = axis % 3 + 2
    if how == "mean":
        return (kernel / size).unsqueeze(place).repeat_interleave(size, dim=place)
    thick = torch.zeros_like(kernel).unsqueeze(place).repeat_interleave(size, dim=place)
    thick.select(place, size // 2).copy_(kernel)
    return thick


def new_axis(flat: Sequence[int], thick: Sequence[int], *, axis: int = NEW_AXIS) -> int | None:
    """Which spatial axis is new in a shape of a volume; None if it is not that of an image and one axis.

    Args:
        flat: Spatial shape of the image's kernel.
        thick: Spatial shape of the volume's.
        axis: The one that is taken where several would do.

    Example:
        >>> new_axis((7, 7), (7, 7, 3)), new_axis((7, 7), (1, 7, 7)), new_axis((7, 7), (3, 3, 3))
        (2, 0, None)
    """
    if len(flat) != 2 or len(thick) != 3:
        return None
    fitting = [i for i in range(3) if [*thick[:i], *thick[i + 1 :]] == list(flat)]
    if axis % 3 in fitting:
        return axis % 3
    return fitting[-1] if fitting else None
