"""How much has to be read around a patch, so that a turned and zoomed patch still finds image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Planes = tuple[tuple[int, int], ...]
"""Planes of rotation; angle i turns plane i from its first towards its second axis, as ``np.rot90``."""


def coarse_axis(patch_shape: Sequence[int], spacing: Sequence[float], threshold: float = 3.0) -> int | None:
    """The axis of a 3D patch along which nothing should be interpolated, if there is one.

    It is the axis of one cell, if there is one; else the axis whose cells lie more than ``threshold``
    times as far apart as the nearest ones of another axis; or else, among equally spaced cells, the one
    that has less than 1 / ``threshold`` as many cells as the longest axis (a slab, that turned out of
    its plane would leave the patch). nnU-Net asks only for the last, and only of the first axis.

    Example:
        >>> coarse_axis((20, 160, 160), (5.0, 0.8, 0.8)), coarse_axis((40, 56, 40), (1.0, 1.0, 1.0))
        (0, None)
    """
    if len(patch_shape) < 3:
        return None
    if 1 in patch_shape and max(patch_shape) > threshold:
        return [*patch_shape].index(1)
    if max(spacing) > threshold * min(spacing):
        return int(np.argmax(spacing))
    if max(patch_shape) > threshold * min(patch_shape):
        return int(np.argmin(patch_shape))
    return None


def rotation_planes(ndim: int, coarse: int | None) -> Planes:
    """Planes in which a patch is rotated: one in 2D or with a coarse axis, else one around each axis."""
    if ndim == 2:
        return ((0, 1),)
    around = ((1, 2), (2, 0), (0, 1))
    return around if coarse is None else (around[coarse],)


def rotation_matrix(degrees: Float[np.ndarray, "n r"], planes: Planes, ndim: int) -> Float[np.ndarray, "n d d"]:
    """Matrices that turn physical offsets by ``degrees`` in each plane; the last plane turns first."""
    matrix = np.tile(np.eye(ndim), (len(degrees), 1, 1))
    for angle, (a, b) in zip(np.radians(degrees).T, planes, strict=True):
        turn = np.tile(np.eye(ndim), (len(degrees), 1, 1))
        turn[:, a, a] = turn[:, b, b] = np.cos(angle)
        turn[:, b, a] = np.sin(angle)
        turn[:, a, b] = -np.sin(angle)
        matrix = matrix @ turn
    return matrix


def window_shape(
    patch_shape: Sequence[int],
    spacing: Sequence[float],
    *,
    degrees: float = 0.0,
    scale: float = 1.0,
    displacement_cells: float = 0.0,
    limit: float = 1.5,
    coarse: int | None = None,
) -> tuple[int, ...]:
    """Cells to read around the centre of a patch.

    On each axis the window contains every patch turned by at most ``degrees`` in every plane (searched
    in steps of at most 5 degrees, up to 30 in 3D), sampled ``scale`` times as wide and displaced; but
    never more than ``limit`` times the patch. Uncapped, 30 degrees with a scale of 1.4 read 13 times the
    cells of a cube, for the rare patch that needs its corners; capped at 1.5, 3.4 times. Cells that a
    capped window misses become invalid, and ``IGNORE`` in the label: with nnU-Net's rates about one in 500.

    nnU-Net enlarges for the rotation but only by 1/0.85 for the scale, whose range reaches 1.4, and its
    1/0.85 is applied to every axis; here the largest scale counts, and the cap is a setting.

    Args:
        patch_shape: Shape of a patch, in cells.
        spacing: Spacing of the cells; rotations are physical.
        degrees: Largest angle in each plane.
        scale: Largest factor on the sampled extent; below 1 counts as 1.
        displacement_cells: Largest elastic displacement, in cells.
        limit: Cap of each axis, as a multiple of the patch; at least 1.
        coarse: Axis that is neither turned, scaled nor displaced along.

    Returns:
        At least the patch on every axis, and larger by an even number of cells: both have one centre.

    Example:
        >>> window_shape((64, 64), (1.0, 1.0), degrees=90)
        (92, 92)
        >>> window_shape((64, 64), (1.0, 1.0), degrees=90, scale=1.4)
        (96, 96)
    """
    ndim = len(patch_shape)
    planes = rotation_planes(ndim, coarse)
    angle = np.linspace(-min(degrees, 90.0), min(degrees, 90.0), 37 if len(planes) == 1 else 13)
    angles = np.stack([a.ravel() for a in np.meshgrid(*[angle] * len(planes), indexing="ij")], axis=1)
    extent = (np.asarray(patch_shape) - 1) * np.asarray(spacing)
    reach = (np.abs(rotation_matrix(angles, planes, ndim)) @ extent).max(0) / spacing
    need = reach * max(scale, 1.0) + 1 + 2 * displacement_cells
    shape = []
    for axis, cells in enumerate(patch_shape):
        margin, allowed = math.ceil((need[axis] - cells) / 2 - 1e-6), int((limit - 1) * cells / 2)
        shape.append(int(cells) + 2 * (0 if axis == coarse else max(min(margin, allowed), 0)))
    return tuple(shape)
