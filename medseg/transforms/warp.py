"""One sampling grid and one linear interpolation for all spatial changes of a patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from medseg.labels import IGNORE
from medseg.transforms.separable import separable, spline_matrix
from medseg.transforms.window import Planes, rotation_matrix

WHOLLY = 0.999
"""Share of valid cells in an interpolated cell from which it counts as wholly valid; the rest is rounding."""
_CLASSES_AT_ONCE = 8  # bounds memory: so many one-hot windows exist at a time


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
    patch = matrix.new_tensor(list(patch_shape))
    window = matrix.new_tensor(list(window_shape))
    off_centre = torch.floor((window - patch) / 2) + (patch - window) / 2
    turn = (matrix * (patch / 2) * (2 / window)[:, None]).flip(-2, -1)
    shift = (2 * off_centre / window).flip(0).expand(len(matrix), -1)
    theta = torch.cat([turn, shift[..., None]], -1)
    grid = F.affine_grid(theta, [len(matrix), 1, *patch_shape], align_corners=False)
    if displacement is not None:
        step = displacement * (2 / window).view(1, -1, *[1] * len(patch_shape))
        grid = grid + step.flip(1).movedim(1, -1)
    return grid


def sample_linear(field: Float[Tensor, "n m *w"], grid: Float[Tensor, "n *s d"]) -> Float[Tensor, "n m *s"]:
    """Linear interpolation; 0 outside the window."""
    return F.grid_sample(field, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def warp_image(
    image: Float[Tensor, "n c *w"], valid: Bool[Tensor, "n *w"], grid: Float[Tensor, "n *s d"]
) -> tuple[Float[Tensor, "n c *s"], Bool[Tensor, "n *s"]]:
    """Image and validity at the sampled positions.

    A cell is valid only if all cells that it is interpolated from are valid and inside the window
    (weight of at least ``WHOLLY``).

    Returns:
        Image, float32, and validity.
    """
    stacked = torch.cat([image.float(), valid[:, None].float()], 1)
    sampled = sample_linear(stacked, grid)
    return sampled[:, :-1], sampled[:, -1] > WHOLLY


def warp_label(label: Int[Tensor, "n *w"], grid: Float[Tensor, "n *s d"]) -> Int[Tensor, "n *s"]:
    """Class with the largest linearly interpolated share at the sampled positions.

    ``IGNORE`` where the share of ignored cells and of the outside of the window exceeds that of each
    class; the lowest class on a tie. So no class appears that was not in the window. One-hot windows
    are made for the classes that occur, a few at a time.
    """
    counts = torch.bincount((label - IGNORE).flatten())
    classes = (counts[1:].nonzero().flatten() + IGNORE + 1).to(label)
    shape = (len(label), *grid.shape[1:-1])
    best = grid.new_zeros(shape)
    total = grid.new_zeros(shape)
    result = label.new_full(shape, IGNORE)
    for some in classes.split(_CLASSES_AT_ONCE):
        one_hot = label[:, None] == some.view(1, -1, *[1] * (label.ndim - 1))
        shares = sample_linear(one_hot.to(grid), grid)
        for value, share in zip(some, shares.unbind(1), strict=True):
            result = torch.where(share > best, value, result)
            best = torch.maximum(best, share)
            total += share
    return torch.where(1 - total > best, IGNORE, result)
