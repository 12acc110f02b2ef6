"""Thinning: the centrelines of masks, cell by cell from outside and without a change of their topology."""

from __future__ import annotations

from functools import cache
from itertools import product

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@torch.no_grad()
def centrelines(mask: Bool[Tensor, "n *s"]) -> Bool[Tensor, "n *s"]:
    """Centreline of each mask: as many components, loops and cavities, and one cell wide but for junctions.

    Cells are removed from each side in turn as long as that changes no topology (simple points, of cells that are
    connected across corners), and unless they end a line. Cells that are removed at the same time are no
    neighbours, so the result is exact. Sheets become lines. Beyond the edge of the array is outside.

    Args:
        mask: Masks in 2D or 3D, one by one.

    References:
        Bertrand and Malandain, A new characterization of three-dimensional simple points, 1994.
    """
    padded = torch.nn.functional.pad(mask, (1, 1) * (mask.ndim - 1))
    cells = padded.flatten().clone()
    strides = torch.tensor(padded.stride(), device=mask.device)[1:]
    offsets, near, faces = _neighbours(mask.ndim - 1)
    steps = offsets.to(mask.device) @ strides
    near, faces = near.to(mask.device), faces.to(mask.device)
    inside = padded.nonzero()
    place, parity = inside @ torch.tensor(padded.stride(), device=mask.device), _parity(inside[:, 1:])
    while len(place):
        removed = 0
        for step in steps[faces]:
            border = cells[place] & ~cells[place + step]
            on_border, field_of = place[border], parity[border]
            for field in range(2 ** (mask.ndim - 1)):
                some = on_border[field_of == field]
                around = cells[some[:, None] + steps]
                gone = some[(around.sum(dim=1) > 1) & _simple(around, near, faces)]
                cells[gone] = False
                removed += len(gone)
        remaining = cells[place]
        place, parity = place[remaining], parity[remaining]
        if not removed:
            break
    return cells.reshape(padded.shape)[(slice(None), *(slice(1, -1) for _ in mask.shape[1:]))]


def _parity(index: Int[Tensor, "m d"]) -> Int[Tensor, " m"]:
    """Which of the 2^d fields a cell is in; no two cells of a field are neighbours."""
    powers = 2 ** torch.arange(index.shape[1], device=index.device)
    return ((index % 2) * powers).sum(dim=1)


def _simple(around: Bool[Tensor, "m q"], near: Bool[Tensor, "2 q q"], faces: Int[Tensor, " f"]) -> Bool[Tensor, " m"]:
    """Whether a cell can be removed: its neighbours in the mask are connected, and those outside that it touches too.

    Args:
        around: Whether each neighbour is in the mask.
        near: Which neighbours touch each other: those in the mask across corners, those outside across faces (none
            of the outermost corners of a cube).
        faces: Neighbours across faces.
    """
    outside = ~around
    start = torch.zeros_like(around)
    start[:, faces] = outside[:, faces]
    one_part = (_reached(_first(around), around, near[0]) == around).all(dim=1)
    touched = _reached(_first(start), outside, near[1])
    return one_part & around.any(dim=1) & (touched | ~start).all(dim=1) & start.any(dim=1)


def _first(some: Bool[Tensor, "m q"]) -> Bool[Tensor, "m q"]:
    """The first of them alone."""
    return some & (some.cumsum(dim=1) == 1)


def _reached(start: Bool[Tensor, "m q"], among: Bool[Tensor, "m q"], near: Bool[Tensor, "q q"]) -> Bool[Tensor, "m q"]:
    """What can be reached from the start by steps between neighbours of each other."""
    near, count = near.float(), -1
    reached = start
    while (total := int(reached.sum())) != count:
        count = total
        reached = reached | (among & ((reached.float() @ near) > 0))
    return reached


@cache
def _neighbours(ndim: int) -> tuple[Int[Tensor, "q d"], Bool[Tensor, "2 q q"], Int[Tensor, " f"]]:
    """Offsets of the neighbours, which of them touch each other, and which lie across a face."""
    offsets = torch.tensor([offset for offset in product((-1, 0, 1), repeat=ndim) if any(offset)])
    apart = (offsets[:, None] - offsets[None]).abs()
    axes = offsets.abs().sum(dim=1)
    flat = axes <= 2
    near = torch.stack([apart.amax(dim=2) <= 1, (apart.sum(dim=2) == 1) & flat[:, None] & flat[None]])
    return offsets, near, (axes == 1).nonzero().flatten()
