"""Patches of a validation case on which its loss is taken: the same ones in every round of every training."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int


def fixed_patches(
    label: Int[np.ndarray, " *s"],
    counted: Bool[np.ndarray, " *s"],
    patch: Sequence[int],
    n: int,
    *,
    name: str,
) -> list[tuple[slice, ...]]:
    """Where ``n`` patches lie, a function of label, patch and ``name`` alone; equal ones count once.

    Every second patch has a counted foreground cell at its centre (as near as the border allows), where there is
    one; the others lie anywhere.

    Args:
        label: Training indices of a case, foreground above 0.
        counted: False where a cell is ignored or invalid.
        patch: Cells on each axis; where the case has fewer, the patch has these.
        n: How many.
        name: Of the case, which seeds the draws.

    Example:
        >>> fixed_patches(np.zeros((4, 3), int), np.ones((4, 3), bool), (8, 3), 2, name="a")
        [(slice(0, 4, None), slice(0, 3, None))]
    """
    shape = label.shape
    size = [min(p, s) for p, s in zip(patch, shape, strict=True)]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    foreground = np.flatnonzero((label > 0) & counted)
    corners = []
    for i in range(n):
        if i % 2 == 0 and len(foreground):
            centre = np.unravel_index(foreground[rng.integers(len(foreground))], shape)
            corner = [min(max(int(c) - w // 2, 0), s - w) for c, w, s in zip(centre, size, shape, strict=True)]
        else:
            corner = [int(rng.integers(s - w + 1)) for w, s in zip(size, shape, strict=True)]
        corners.append(tuple(corner))
    return [tuple(slice(a, a + w) for a, w in zip(corner, size, strict=True)) for corner in dict.fromkeys(corners)]
