"""Which blocks of a patch are hidden from a network that is to reconstruct them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError


def check_mask_ratio(mask_ratio: float, *, such_as: float) -> None:
    """Raise if blocks can't be hidden in this ratio.

    Raises:
        InputError: It is not between 0 and 1.
    """
    if not 0 < mask_ratio < 1:
        raise InputError(f"method.mask_ratio={mask_ratio}: expected a number between 0 and 1, such as {such_as}")


def block_sizes(mask_patch_size: int | Sequence[int], patch: Sequence[int]) -> Sequence[int]:
    """Cells of a block on each axis of a patch.

    Example:
        >>> block_sizes(8, (32, 32)), block_sizes([8, 16], (32, 32))
        ([8, 8], [8, 16])
    """
    return [mask_patch_size] * len(patch) if isinstance(mask_patch_size, int) else mask_patch_size


def blocks_of(patch: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """Number of blocks on each axis.

    Raises:
        InputError: The block does not divide the patch, or there is a single block.
    """
    block = tuple(block)
    if len(block) != len(patch) or any(p % b for p, b in zip(patch, block, strict=True)):
        raise InputError(
            f"method.mask_patch_size={list(block)}: the patch {list(patch)} is no multiple of it; choose one that "
            "divides it, or another plan.patch"
        )
    grid = tuple(p // b for p, b in zip(patch, block, strict=True))
    if int(np.prod(grid)) < 2:
        raise InputError(
            f"method.mask_patch_size={list(block)}: {list(patch)} holds one block only; choose a smaller one"
        )
    return grid


def hidden_blocks(key: Int[Tensor, "b 3"], grid: Sequence[int], mask_ratio: float) -> Bool[Tensor, "b *g"]:
    """Which blocks are hidden: a fraction of them (rounded; at least one, never all), drawn by the key of each sample.

    Args:
        key: (seed, step, sample) of each patch; on the CPU.
        grid: Blocks on each axis.
        mask_ratio: That fraction, in (0, 1).
    """
    n = int(np.prod(tuple(grid)))
    n_hidden = min(max(round(mask_ratio * n), 1), n - 1)
    words = np.ascontiguousarray(key.numpy(), dtype=np.int64).view(np.uint32)
    hidden = np.zeros((len(key), n), dtype=bool)
    for row, chosen in zip(words, hidden, strict=True):
        rng = np.random.default_rng(np.random.SeedSequence(row, spawn_key=(1000,)))
        chosen[rng.permutation(n)[:n_hidden]] = True
    return torch.from_numpy(hidden.reshape(len(key), *grid))


def spread(blocks: Bool[Tensor, "b *g"], shape: Sequence[int]) -> Bool[Tensor, "b *s"]:
    """Each block's value on the cells of a grid of ``shape``; ``shape`` is a multiple of the grid on each axis.

    Example:
        >>> spread(torch.tensor([[True, False]]), (4,))
        tensor([[ True,  True, False, False]])
    """
    spreading = blocks
    for axis, size in enumerate(shape, start=1):
        spreading = spreading.repeat_interleave(size // spreading.shape[axis], dim=axis)
    return spreading


def at(blocks: Bool[Tensor, "b *g"], shape: Sequence[int]) -> Bool[Tensor, "b *t"]:
    """The mask at the resolution of a feature; a cell that reaches into several blocks takes that of its centre."""
    return functional.interpolate(blocks[:, None].float(), tuple(shape), mode="nearest-exact")[:, 0] > 0.5


def per_block(cells: Float[Tensor, "b c *s"], grid: Sequence[int]) -> Float[Tensor, "b n p"]:
    """The cells of each block in a row, channel after channel; blocks in row-major order.

    Args:
        cells: Of a patch.
        grid: Blocks on each axis.
    """
    b, c, *shape = cells.shape
    ndim = len(shape)
    split = [size for s, g in zip(shape, grid, strict=True) for size in (g, s // g)]
    folded = cells.reshape(b, c, *split)
    order = [0, *(2 + 2 * i for i in range(ndim)), 1, *(3 + 2 * i for i in range(ndim))]
    return folded.permute(order).reshape(b, int(np.prod(tuple(grid))), -1)


def from_blocks(rows: Float[Tensor, "b n p"], channels: int, shape: Sequence[int], grid: Sequence[int]) -> Tensor:
    """The patch ``[b, c, *s]`` whose ``per_block`` are these rows."""
    ndim = len(tuple(shape))
    sizes = [s // g for s, g in zip(shape, grid, strict=True)]
    folded = rows.reshape(len(rows), *grid, channels, *sizes)
    order = [0, 1 + ndim, *(axis for i in range(ndim) for axis in (1 + i, 2 + ndim + i))]
    return folded.permute(order).reshape(len(rows), channels, *shape)


def standardised(target: Float[Tensor, "b c *s"], grid: Sequence[int]) -> Float[Tensor, "b c *s"]:
    """Each block less its mean, over its standard deviation: texture rather than brightness.

    References:
        He et al., Masked Autoencoders Are Scalable Vision Learners, 2022 (``norm_pix_loss``).
    """
    rows = per_block(target, grid)
    rows = (rows - rows.mean(dim=-1, keepdim=True)) / (rows.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return from_blocks(rows, target.shape[1], target.shape[2:], grid)
