"""Betti numbers: how many components, loops and cavities a mask has."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Bool
from scipy import ndimage


def betti_numbers(mask: Bool[np.ndarray, " *s"]) -> tuple[int, ...]:
    """Number of components and holes of a mask in 2D, of components, loops and cavities in 3D.

    Cells are connected across faces (4 in 2D, 6 in 3D), and what lies outside of the mask across corners as well, as
    in ``match_features``. What is beyond the edge of the array is outside of the mask. Loops in 3D follow from the
    Euler characteristic, which counts cells, pairs, squares and cubes of cells.

    Args:
        mask: In 2D or 3D.

    Example:
        >>> ring = np.ones((3, 3), dtype=bool)
        >>> ring[1, 1] = False
        >>> betti_numbers(ring), betti_numbers(np.repeat(ring[None], 3, axis=0))
        ((1, 1), (1, 1, 0))
    """
    outside = ~np.pad(mask, 1)
    components = int(ndimage.label(mask)[1])
    holes = int(ndimage.label(outside, structure=np.ones((3,) * mask.ndim))[1]) - 1
    if mask.ndim == 2:
        return components, holes
    return components, components + holes - _euler(mask), holes


def _euler(mask: Bool[np.ndarray, " *s"]) -> int:
    """Cells less pairs plus squares less cubes of neighbouring cells that are all in the mask."""
    total = 0
    for extent in product((0, 1), repeat=mask.ndim):
        block = mask
        for axis, size in enumerate(extent):
            if size:
                block = np.logical_and(*(np.take(block, range(i, block.shape[axis] - 1 + i), axis) for i in (0, 1)))
        total += (-1) ** sum(extent) * int(block.sum())
    return total
