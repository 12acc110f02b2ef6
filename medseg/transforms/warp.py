"""One sampling grid and one linear interpolation for all spatial changes of a patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.labels import IGNORE
from medseg.transforms.linear import Corners
from medseg.transforms.separable import separable, spline_matrix
from medseg.transforms.window import Planes, rotation_matrix

_LEAST = 1e-6
"""Sum of shares that is divided by at least."""


def sampling_matrix(
    degrees: Float[np.ndarray, "n r"],
    scale: Float[np.ndarray, " n"],
    flip: Bool[np.ndarray, "n d"],
    spacing: Sequence[float],
    planes: Planes,
    coarse: int | None,
) -> Float[np.ndarray, "n d d"]:
    """Offsets from the centre in patch cells -> offsets in window cells.

    .. math:: A = S^{-1} R^T Z S F

    with S the spacing, R the rotation of the *content*, Z the scale (1 on the coarse axis) and F the
    flips. Angles are physical: without S, cells of unequal edges would be sheared. A scale of 1.4
    samples 1.4 times the extent, which shows objects at 1/1.4 of their size. Content is scaled, turned,
    then flipped.
    """
    ndim = flip.shape[1]
    turn = rotation_matrix(degrees, planes, ndim).transpose(0, 2, 1)
    zoom = np.repeat(scale[:, None], ndim, axis=1)
    if coarse is not None:
        zoom[:, coarse] = 1.0
    column = zoom * np.asarray(spacing) * np.where(flip, -1.0, 1.0)
    return turn * column[:, None, :] / np.asarray(spacing)[:, None]


def displacement_field(control: Float[Tensor, "n d *m"], patch_shape: Sequence[int]) -> Float[Tensor, "n d *s"]:
    """Smooth displacement of each patch cell, by a cubic B-spline with these control points."""
    maps = control.flatten(0, 1)
    matrices = [
        spline_matrix(size, knots).expand(len(maps), -1, -1)
        for size, knots in zip(patch_shape, maps.shape[1:], strict=True)
    ]
    return separable(maps, matrices).unflatten(0, control.shape[:2])


def sampling_grid(
    matrix: Float[Tensor, "n d d"],
    patch_shape: Sequence[int],
    window_shape: Sequence[int],
    displacement: Float[Tensor, "n d *s"] | None = None,
) -> Float[Tensor, "n *s d"]:
    """Where in its window each patch cell is sampled, in the convention of ``grid_sample``.

    Coordinates run from -1 to 1 between the outer edges of the window (``align_corners=False``, which
    also serves axes of a single cell) and are in reversed axis order. The patch is the centre crop that
    starts at ``(window - patch) // 2``.

    Args:
        matrix: ``sampling_matrix``.
        patch_shape: Cells of the result.
        window_shape: Cells of what is sampled.
        displacement: Added to the sampled position, in cells.
    """
    ndim = len(patch_shape)
    patch = matrix.new_tensor(list(patch_shape))
    window = matrix.new_tensor(list(window_shape))
    off_centre = torch.floor((window - patch) / 2) + (patch - window) / 2
    turn = (matrix * (patch / 2) * (2 / window)[:, None]).flip(-2)
    # a sum of one small map an axis: affine_grid multiplies a matrix with each cell, at 20 times the cost
    parts = []
    for axis, size in enumerate(patch_shape):
        centres = torch.linspace(-1, 1, size).to(matrix) * (size - 1) / size
        parts.append(turn[:, :, axis].view(-1, ndim, *[1] * ndim) * centres.view(-1, *[1] * (ndim - 1 - axis)))
    shift = (2 * off_centre / window).flip(0).view(1, -1, *[1] * ndim)
    coordinate = sum(reversed(parts[:-1]), parts[-1]) + shift
    if displacement is not None:
        coordinate = coordinate + (displacement * (2 / window).view(1, -1, *[1] * ndim)).flip(1)
    return coordinate.movedim(1, -1)


def warp(
    image: Float[Tensor, "c *w"], label: Int[Tensor, " *w"], valid: Bool[Tensor, " *w"], grid: Float[Tensor, "*s d"]
) -> tuple[Float[Tensor, "c *s"], Int[Tensor, " *s"], Bool[Tensor, " *s"]]:
    """Image, label and validity of one window at the sampled positions.

    The image is interpolated linearly, and is 0 outside the window. A label is the class with the largest
    linearly interpolated share, the lowest on a tie, and ``IGNORE`` where the share of ignored cells and of
    the outside of the window exceeds that of each class. So no class appears that was not in the window.
    A cell is valid only if all cells that it is interpolated from are valid and inside the window (weight
    of at least ``WHOLLY``). What stands in cells that are not valid, be it NaN, enters nowhere: they count as 0.

    Returns:
        Image in float32, label in its type, validity.
    """
    if not valid.all():
        image = image.masked_fill(~valid, 0)
    corners = Corners.around(grid, label.shape)
    warped = (corners.blend(image), *corners.vote(label, valid))
    cells, voted, inside = (values.unflatten(-1, grid.shape[:-1]) for values in warped)
    return cells, voted, inside


def warp_shares(
    soft: Float[Tensor, "n *w"], label: Int[Tensor, " *s"], grid: Float[Tensor, "*s d"]
) -> Float[Tensor, "n *s"]:
    """Soft labels of one window at the sampled positions.

    Shares are interpolated linearly, and divided by their sum, which is below 1 next to ignored cells and to the border
    of the window; they are 0 where the warped ``label`` is ``IGNORE``.

    Args:
        soft: Shares of the classes in each cell of the window; they sum to 1, or to 0.
        label: Result of ``warp``.
        grid: Sampled positions.
    """
    blended = Corners.around(grid, soft.shape[1:]).blend(soft).unflatten(-1, label.shape)
    total = blended.sum(0, keepdim=True)
    return torch.where((label != IGNORE) & (total > 0), blended / total.clamp_min(_LEAST), 0.0)
