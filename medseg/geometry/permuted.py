"""Permuted: two grids of the same cells, stored in another order or direction of their axes."""

from __future__ import annotations

import numpy as np

from medseg.geometry.grid import Grid

Turn = tuple[tuple[int, ...], tuple[bool, ...]]
"""(axes, flips) as ``Grid.reorient`` takes them."""


def turn_onto(grid: Grid, reference: Grid) -> Turn | None:
    """How ``grid.reorient`` brings the axes of a grid closest to those of another.

    Each axis of the reference takes the axis of ``grid`` whose direction has the largest share in it. Nothing is
    said about position, shape and spacing: ``grid.reorient(*turn).offset_from(reference)`` tells whether the two are
    the same cells.

    Args:
        grid: Grid to turn.
        reference: Grid of the same frame and number of axes.

    Returns:
        None if frames or axes differ, or one axis would be taken twice (grids turned by about 45 degrees).

    Example:
        >>> import numpy as np
        >>> ras = Grid.regular((4, 5, 6), (1, 2, 3))
        >>> turn_onto(ras.reorient((2, 0, 1), (False, True, False)), ras)
        ((1, 2, 0), (True, False, False))
    """
    if grid.frame != reference.frame or grid.ndim != reference.ndim:
        return None
    columns = [g.affine[:-1, :-1] / np.linalg.norm(g.affine[:-1, :-1], axis=0) for g in (grid, reference)]
    share = np.linalg.solve(*columns)  # column j: unit vector j of the reference in those of the grid
    axes = tuple(int(a) for a in np.abs(share).argmax(axis=0))
    if len(set(axes)) < grid.ndim:
        return None
    return axes, tuple(bool(share[a, j] < 0) for j, a in enumerate(axes))


def unmoved(turn: Turn) -> bool:
    """Whether the turn leaves an array as it is."""
    axes, flips = turn
    return axes == tuple(range(len(axes))) and not any(flips)
