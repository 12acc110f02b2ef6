"""Distances to the boundary of masks, for losses: computed on the CPU and without a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medseg.errors import InputError


def signed_distance(mask: Bool[Tensor, "b n *s"], spacing: Sequence[float] | None = None) -> Float[Tensor, "b n *s"]:
    """Distance of each cell to the nearest cell of the other kind: positive outside of the mask, negative inside.

    0 throughout a mask that is empty or full, which has no boundary: the edge of the array is none.

    Args:
        mask: Masks, in 2D or 3D.
        spacing: Distance between cell centres along each axis; 1 if absent.

    Raises:
        InputError: There is a number of spacings other than that of axes.

    Example:
        >>> signed_distance(torch.tensor([[[[False, True, True, False, False]]]])).tolist()
        [[[[1.0, -1.0, -1.0, 1.0, 2.0]]]]
    """
    cells = mask.detach().cpu().numpy()
    steps = tuple(map(float, spacing or (1.0,) * (cells.ndim - 2)))
    if len(steps) != cells.ndim - 2:
        raise InputError(f"spacing: got {len(steps)} numbers, expected one for each of {cells.ndim - 2} axes")
    distance = np.zeros(cells.shape, dtype=np.float32)
    for place in np.ndindex(cells.shape[:2]):
        inside = np.ascontiguousarray(cells[place])
        if inside.any() and not inside.all():
            distance[place] = _distance_within(~inside, steps) - _distance_within(inside, steps)
    return torch.from_numpy(distance).to(mask.device)


def _distance_within(cells: Bool[np.ndarray, " *s"], steps: tuple[float, ...]) -> Float[np.ndarray, " *s"]:
    """Distance of each of these cells to the nearest other one; 0 there."""
    distance: np.ndarray = edt.edt(cells, anisotropy=steps, black_border=False, parallel=1)
    return distance


def checked_spacing(spacing: Sequence[float] | None, *, loss: str) -> tuple[float, ...] | None:
    """The setting ``spacing`` of a loss.

    Raises:
        InputError: It is no list of positive numbers.
    """
    if spacing is None:
        return None
    if isinstance(spacing, str) or not all(not isinstance(step, str) and step > 0 for step in spacing):
        raise InputError(f"loss {loss}: spacing: got {spacing}, expected a positive number for each axis, or null")
    return tuple(map(float, spacing))
