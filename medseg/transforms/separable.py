"""Linear maps along single axes, as small matrices: blur, loss of resolution, splines.

A matrix per image serves any boundary rule and a different strength for each image of the stack in one
batched product. For nine taps on 40 x 56 x 40 cells this was about nine times faster on a CPU than
``conv3d`` (0.4 against 3 x 1.2 ms, one thread), and low resolution needs no ragged intermediate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def along_axis(maps: Float[Tensor, "n *s"], matrix: Float[Tensor, "n out in"], axis: int) -> Float[Tensor, "n *t"]:
    """Multiply each map's cells along one axis with its matrix.

    Args:
        maps: Stack of images; ``in`` cells along ``axis``.
        matrix: One for each map.
        axis: Spatial axis, from 0.

    Returns:
        Maps with ``out`` cells along ``axis``.
    """
    space = list(maps.shape[1:])
    before, after = math.prod(space[:axis]), math.prod(space[axis + 1 :])
    flat = maps.reshape(len(maps), before, space[axis], after)
    # along the last axis: one large product instead of many with a single column
    result = flat[..., 0] @ matrix.mT if after == 1 else matrix[:, None] @ flat
    space[axis] = matrix.shape[1]
    return result.reshape(len(maps), *space)


def separable(maps: Float[Tensor, "n *s"], matrices: Sequence[Tensor | None]) -> Float[Tensor, "n *t"]:
    """``along_axis`` for each axis in turn.

    Args:
        maps: Stack of images.
        matrices: ``[n, out, in]`` for each axis; None leaves an axis as it is.
    """
    for axis, matrix in enumerate(matrices):
        if matrix is not None:
            maps = along_axis(maps, matrix.to(maps), axis)
    return maps


def gaussian_matrix(
    sigma: Float[np.ndarray, " n"], size: int, *, truncate: float = 4.0
) -> Float[Tensor, "n size size"]:
    """Blur along an axis of ``size`` cells with a Gaussian of ``sigma`` cells.

    Sampled at cell centres, cut at ``round(truncate * sigma)`` cells and normalised; the edge reflects
    without repeating its cell (``reflect`` of torch, ``mirror`` of scipy). Sigma 0 is the identity.
    """
    radius = np.floor(truncate * sigma + 0.5)
    offset = np.arange(-int(radius.max(initial=0)), int(radius.max(initial=0)) + 1)
    width = np.maximum(sigma, 1e-6)[:, None]
    tap = np.exp(-0.5 * (offset / width) ** 2) * (np.abs(offset) <= radius[:, None])
    tap /= tap.sum(1, keepdims=True)
    period = max(2 * (size - 1), 1)
    source = (np.arange(size)[:, None] + offset) % period
    source = np.minimum(source, period - source) if size > 1 else np.zeros_like(source)
    matrix = np.zeros((len(sigma), size, size))
    np.add.at(matrix, (np.arange(len(sigma))[:, None, None], np.arange(size)[:, None], source), tap[:, None, :])
    return torch.from_numpy(matrix).float()


def low_resolution_matrix(zoom: Float[np.ndarray, " n"], size: int) -> Float[Tensor, "n size size"]:
    """Reduce an axis to ``round(zoom * size)`` cells (nearest) and bring it back (linear).

    Both steps align the outer corners of the cells: ``nearest-exact``, then ``linear`` with
    ``align_corners=False``, of ``torch.nn.functional.interpolate``.
    """
    small = np.maximum(np.round(zoom * size), 1)[:, None]
    position = np.clip((np.arange(size) + 0.5) * small / size - 0.5, 0, small - 1)
    lower = np.floor(position)
    share = position - lower
    matrix = np.zeros((len(zoom), size, size))
    image, row = np.arange(len(zoom))[:, None], np.arange(size)
    for index, weight in ((lower, 1 - share), (np.minimum(lower + 1, small - 1), share)):
        source = np.floor((index + 0.5) * size / small).astype(int)
        np.add.at(matrix, (image, row, source), weight)
    return torch.from_numpy(matrix).float()


def spline_matrix(size: int, knots: int) -> Float[Tensor, "size knots"]:
    """Uniform cubic B-spline with ``knots`` control points over an axis of ``size`` cells.

    Control points 1 and ``knots - 2`` lie on the first and last cell, one more on either side. Rows sum
    to 1, so equal control points give a constant.
    """
    position = np.arange(size) / max(size - 1, 1) * (knots - 3)
    first = np.minimum(np.floor(position), knots - 4).astype(int)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    matrix = np.zeros((size, knots))
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights, axis=1)
    return torch.from_numpy(matrix).float()
