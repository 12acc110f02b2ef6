"""Queries: learnt vectors that attend to features, in turn from coarse to fine, and find a mask each."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, cat, nn

from medseg.models.decoders.blocks import resize


class Queries(nn.Module):
    """Layers of attention of queries to features; after each, queries have a mask.

    Args:
        channels: Width of queries and features.
        queries: Number of queries, q.
        levels: Number of features that are attended to.
        layers: Number of layers, at least that of the levels.
        heads: Number of attention heads.
        feedforward: Hidden width after attention.
        masked: Attend to the cells of the own mask so far only (to all where that is empty).
        dropout: Share of values dropped, in training.

    References:
        Cheng et al., Mask2Former, CVPR 2022.
    """

    def __init__(
        self, channels: int, queries: int, levels: int, *, layers: int, heads: int, feedforward: int, masked: bool,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.masked = heads, masked
        self.start = nn.Parameter(torch.randn(queries, channels))
        self.place = nn.Parameter(torch.randn(queries, channels))
        self.level = nn.Parameter(torch.randn(levels, channels))
        self.layers = nn.ModuleList(Layer(channels, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.mask = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(),
            nn.Linear(channels, channels),
        )  # fmt: skip

    def forward(
        self, levels: Sequence[Tensor], cells: Float[Tensor, "b c *s"]
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b q *s"]]:
        """Queries, normalised, and logits of their masks.

        Args:
            levels: Features ``[b, c, *t]``, coarse to fine.
            cells: Cells that masks are predicted for.
        """
        places = [sine_positions(level.shape[2:], level.shape[1]).to(level) for level in levels]
        tokens = [level.flatten(2).transpose(1, 2) + own for level, own in zip(levels, self.level, strict=True)]
        queries = self.start.expand(len(cells), -1, -1)
        for i, layer in enumerate(self.layers):
            turn = i % len(levels)
            blocked = None
            if self.masked:
                with torch.no_grad():
                    blocked = self.block(self.masks(self.norm(queries), cells), levels[turn].shape[2:])
            queries = layer(queries, self.place, tokens[turn], places[turn], blocked)
        queries = self.norm(queries)
        return queries, self.masks(queries, cells)

    def masks(self, queries: Float[Tensor, "b q c"], cells: Float[Tensor, "b c *s"]) -> Float[Tensor, "b q *s"]:
        """Logits of each query's mask."""
        return (self.mask(queries) @ cells.flatten(2)).unflatten(2, cells.shape[2:])

    def block(self, masks: Float[Tensor, "b q *s"], shape: Sequence[int]) -> Bool[Tensor, "bh q n"]:
        """Cells of a grid of ``shape`` that a query does not attend to: those outside its mask, unless all are."""
        outside = resize(masks, shape).flatten(2) < 0
        outside &= ~outside.all(dim=2, keepdim=True)
        return outside.repeat_interleave(self.heads, dim=0)


class Layer(nn.Module):
    """Attention to cells, attention among queries, a perceptron; each added and normalised.

    Args:
        channels: Width.
        heads: Number of attention heads.
        feedforward: Hidden width.
        dropout: Share of values dropped, in training.
    """

    def __init__(self, channels: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.cross = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.own = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        place: Float[Tensor, "q c"],
        tokens: Float[Tensor, "b n c"],
        places: Float[Tensor, "n c"],
        blocked: Bool[Tensor, "bh q n"] | None,
    ) -> Float[Tensor, "b q c"]:
        """Queries after the layer; positions are added to what is compared, not to what is taken."""
        attended, _ = self.cross(queries + place, tokens + places, tokens, attn_mask=blocked, need_weights=False)
        queries = self.norms[0](queries + self.dropout(attended))
        attended, _ = self.own(queries + place, queries + place, queries, need_weights=False)
        queries = self.norms[1](queries + self.dropout(attended))
        return self.norms[2](queries + self.dropout(self.feedforward(queries)))


def sine_positions(shape: Sequence[int], channels: int) -> Float[Tensor, "n c"]:
    """Sines and cosines of each cell's place on each axis, in row-major order.

    Each axis has an equal, even share of the channels, the first axis first; what is left over is 0. The
    far end of an axis is one turn of the slowest wave, whatever its number of cells.

    Args:
        shape: Shape of the grid, of n cells.
        channels: Number of channels, 2 or more for each axis.

    References:
        Carion et al., DETR, 2020 (its normalised sine positions of images, here on any number of axes).

    Example:
        >>> sine_positions([4, 1], 4)[:, :2].round(decimals=2)
        tensor([[ 1., -0.],
                [-0., -1.],
                [-1.,  0.],
                [ 0.,  1.]])
    """
    share = channels // (2 * len(shape)) * 2
    wavelength = 10000.0 ** (torch.arange(0, share, 2) / share)
    waves = []
    for cells in shape:
        angle = torch.arange(1, cells + 1)[:, None] / cells * 2 * pi / wavelength
        waves.append(torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1))
    grids = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    parts = [wave[grid.flatten()] for wave, grid in zip(waves, grids, strict=True)]
    return cat([*parts, torch.zeros(prod(shape), channels - share * len(shape))], dim=1)
