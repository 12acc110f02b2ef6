"""Distances to the boundary of masks, for losses: computed on the CPU and without a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medseg.errors import InputError


def signed_distance(
    mask: Bool[Tensor, "b n *s"], counted: Bool[Tensor, "b *s"], spacing: Sequence[float] | None = None
) -> Float[Tensor, "b n *s"]:
    """Distance of each cell to the nearest counted cell of the other kind: positive outside of a mask, negative inside.

    0 in cells that do not count, and throughout a mask that holds no counted cell, or all: it has no boundary, as the
    edge of the array is none.

    Args:
        mask: Masks, in 2D or 3D.
        counted: False where a cell does not count.
        spacing: Distance between cell centres along each axis; 1 if absent.

    Raises:
        InputError: There is a number of spacings other than that of axes.

    Example:
        >>> mask = torch.tensor([[[[False, True, True, False, False]]]])
        >>> signed_distance(mask, torch.ones(1, 1, 5, dtype=torch.bool)).tolist()
        [[[[1.0, -1.0, -1.0, 1.0, 2.0]]]]
    """
    ndim = mask.ndim - 2
    steps = tuple(map(float, spacing or (1.0,) * ndim))
    if len(steps) != ndim:
        raise InputError(f"spacing: got {len(steps)} numbers, expected one for each of {ndim} axes")
    inside = (mask & counted[:, None]).detach().cpu().numpy()
    outside = (~mask & counted[:, None]).detach().cpu().numpy()
    distance = np.zeros(inside.shape, dtype=np.float32)
    for place in np.ndindex(inside.shape[:2]):
        if inside[place].any() and outside[place].any():
            to_inside, to_outside = (_distance_to(cells[place], steps) for cells in (inside, outside))
            distance[place] = to_inside * outside[place] - to_outside * inside[place]
    return torch.from_numpy(distance).to(mask.device)


def _distance_to(cells: Bool[np.ndarray, " *s"], steps: tuple[float, ...]) -> Float[np.ndarray, " *s"]:
    """Distance of each cell to the nearest one of these."""
    distance: np.ndarray = edt.edt(np.ascontiguousarray(~cells), anisotropy=steps, black_border=False, parallel=1)
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
