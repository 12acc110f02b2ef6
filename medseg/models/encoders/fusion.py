"""Fusion: one feature from those of several branches, of which some may be missing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.layers import CONV, CellNorm

_GRID = {2: 16, 3: 6}
"""Cells along each axis of the keys of cross-attention, by the number of spatial axes."""
_AVERAGE = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
_OF_A_HEAD = 32
"""Channels of a head of attention."""


class Fusion(nn.Module, ABC):
    """Joins the features of one level.

    Features of an absent branch have no influence on the result.

    Args:
        width: Channels of the feature of each branch, and of the result.
        branches: Number of branches, n.
        ndim: Number of spatial axes.
    """

    def __init__(self, width: int, branches: int, ndim: int) -> None:
        super().__init__()
        self.width, self.branches, self.ndim = width, branches, ndim

    def forward(self, grids: Sequence[Tensor], present: Float[Tensor, "b n"]) -> Float[Tensor, "b w *s"]:
        """The joined feature.

        Args:
            grids: Of each branch ``[b, w, *s]``, all of one shape; of cross-attention those of the others of any.
            present: 1 where an image has data of the branch, 0 where it is missing.
        """
        shown = [present[:, i].reshape(-1, *[1] * (self.ndim + 1)) for i in range(len(grids))]
        return self.fuse([grid * there for grid, there in zip(grids, shown, strict=True)], shown)

    @abstractmethod
    def fuse(self, grids: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """The joined feature of grids that are 0 where their branch is missing; ``shown``: ``[b, 1, ...]``, 0 or 1."""


class Sum(Fusion):
    """The sum, times the number of branches over the number of those present, so that its scale stays the same."""

    def fuse(self, grids: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """See ``Fusion``."""
        return sum(grids[1:], grids[0]) * (len(grids) / sum(shown[1:], shown[0]).clamp_min(1))


class Concatenation(Fusion):
    """All channels through a layer of kernel 1; a missing branch is replaced by a learned vector."""

    def __init__(self, width: int, branches: int, ndim: int) -> None:
        super().__init__(width, branches, ndim)
        self.missing = nn.Parameter(torch.zeros(branches, width))
        self.mix = CONV[ndim](branches * width, width, 1)

    def fuse(self, grids: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """See ``Fusion``."""
        filled = [
            grid + vector.reshape(1, -1, *[1] * self.ndim) * (1 - there)
            for grid, vector, there in zip(grids, self.missing, shown, strict=True)
        ]
        return self.mix(torch.cat(filled, dim=1))


class Gate(Fusion):
    """A mean with weights for each cell, from all branches by a layer of kernel 1; those of missing branches are 0.

    References:
        Valada et al., Self-Supervised Model Adaptation for Multimodal Semantic Segmentation, 2019 (SSMA; its gates are
        of channels and cells, here of cells).
    """

    def __init__(self, width: int, branches: int, ndim: int) -> None:
        super().__init__(width, branches, ndim)
        self.weigh = CONV[ndim](branches * width, branches, 1)

    def fuse(self, grids: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """See ``Fusion``."""
        scores = self.weigh(torch.cat(list(grids), dim=1))
        there = torch.cat(list(shown), dim=1)
        gates = torch.softmax(scores, dim=1) * there
        gates = gates / gates.sum(dim=1, keepdim=True).clamp_min(torch.finfo(gates.dtype).tiny)
        return sum((grid * gates[:, i : i + 1] for i, grid in enumerate(grids)), torch.zeros_like(grids[0]))


class CrossAttention(Fusion):
    """Cells of the first branch attend to those of the others, which are averaged to a coarser grid.

    The result is added to the first branch; a learned vector replaces that branch where it is missing. With ``grid``
    cells along each axis, memory grows with the cells of the first branch alone.

    Args:
        width: See ``Fusion``.
        branches: See ``Fusion``.
        ndim: See ``Fusion``.
        heads: Of attention; None for one for each 32 channels.
        grid: Most cells of the others along each axis; None for 16 of images, 6 of volumes.

    Raises:
        InputError: Heads that do not divide the channels; fewer than one cell.

    References:
        Wang et al., Pyramid Vision Transformer, 2021 (keys on a coarser grid).
    """

    def __init__(
        self, width: int, branches: int, ndim: int, *, heads: int | None = None, grid: int | None = None
    ) -> None:
        super().__init__(width, branches, ndim)
        self.heads = heads or gcd(width, max(width // _OF_A_HEAD, 1))
        self.cells = _GRID[ndim] if grid is None else grid
        if width % self.heads or self.heads < 1:
            raise InputError(f"model.encoder.fusion.heads={heads}: expected a divisor of the {width} channels")
        if self.cells < 1:
            raise InputError(f"model.encoder.fusion.grid={grid}: expected 1 or more cells, or null")
        self.missing = nn.Parameter(torch.zeros(width))
        self.norms = nn.ModuleList(CellNorm(width) for _ in range(branches))
        self.query = CONV[ndim](width, width, 1)
        self.keys = nn.ModuleList(CONV[ndim](width, 2 * width, 1) for _ in range(branches - 1))
        self.out = CONV[ndim](width, width, 1)

    def fuse(self, grids: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """See ``Fusion``."""
        first = grids[0] + self.missing.reshape(1, -1, *[1] * self.ndim) * (1 - shown[0])
        if len(grids) == 1:
            return first
        query = self._split(self.query(self.norms[0](first)))
        others = [self._averaged(grid) for grid in grids[1:]]
        pairs = [key(norm(grid)) for key, norm, grid in zip(self.keys, self.norms[1:], others, strict=True)]
        keys, values = torch.cat([pair.flatten(2) for pair in pairs], dim=2).chunk(2, dim=1)
        cells = pairs[0].shape[2:].numel()
        seen = torch.cat([there.flatten(1).expand(-1, cells) for there in shown[1:]], dim=1)
        bias = ((seen - 1) * 1e4)[:, None, None].expand(-1, 1, query.shape[2], -1)  # all missing: equal, dropped below
        attended = functional.scaled_dot_product_attention(
            query, self._split(keys), self._split(values), attn_mask=bias.to(query.dtype)
        )
        back = attended.transpose(2, 3).reshape(first.shape)
        return first + self.out(back) * torch.stack(list(shown[1:])).amax(0)

    def _averaged(self, grid: Tensor) -> Tensor:
        """The grid, averaged where it has more cells along an axis than keys may have."""
        kernel = tuple(-(-n // self.cells) for n in grid.shape[2:])
        if max(kernel) == 1:
            return grid
        return _AVERAGE[self.ndim](grid, kernel, kernel, ceil_mode=True, count_include_pad=False)

    def _split(self, grid: Tensor) -> Float[Tensor, "b h n e"]:
        return grid.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)


class Difference(Fusion):
    """The first branch and the absolute difference of each other one from it, through a layer of kernel 1.

    Where one of the two is missing their difference counts as 0.

    References:
        Daudt et al., Fully Convolutional Siamese Networks for Change Detection, 2018 (FC-Siam-diff).
    """

    def __init__(self, width: int, branches: int, ndim: int) -> None:
        super().__init__(width, branches, ndim)
        self.mix = CONV[ndim](branches * width, width, 1)

    def fuse(self, grids: Sequence[Tensor], shown: Sequence[Tensor]) -> Tensor:
        """See ``Fusion``."""
        first = grids[0]
        apart = [(grid - first).abs() * there * shown[0] for grid, there in zip(grids[1:], shown[1:], strict=True)]
        return self.mix(torch.cat([first, *apart], dim=1))
