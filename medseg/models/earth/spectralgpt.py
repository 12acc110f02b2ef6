"""SpectralGPT: a vision transformer whose tokens are cubes of three neighbouring bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import isqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.models.earth.blocks import Block
from medseg.models.earth.fmow import STATISTICS
from medseg.models.earth.grouped_vit import GroupedViT
from medseg.models.earth.groups import bands_like, group
from medseg.models.encoders.vit import Size, sized
from medseg.models.network import ModelSpec
from medseg.sensors.bands import bands_of
from medseg.weights.positions import resample
from medseg.weights.report import Report

SIZES = {"base": Size(768, 12, 12), "large": Size(1024, 24, 16), "huge": Size(1280, 32, 16)}
PATCH, CUBE, GRID = 8, 3, 12
"""Cells of a patch on each axis; bands of a token; places of the positions on each axis, of images of 96 cells."""
_BANDS = tuple(band for band in STATISTICS if band != "B10")
GROUPS = tuple(
    group(str(i), bands_of(_BANDS[CUBE * i : CUBE * (i + 1)], "sentinel-2"), STATISTICS)
    for i in range(len(_BANDS) // CUBE)
)


class SpectralGpt(GroupedViT):
    """SpectralGPT: twelve bands of Sentinel-2, all but B10, in four cubes of three neighbours; 2D only.

    One kernel, of three bands and 8 x 8 cells, makes the tokens of all cubes, so there is nothing to fit to other
    channels and ``adapt`` has no effect: each channel takes the place of the band that it is or is most like. Several
    in one place are averaged. A cube without a channel has no tokens; one that lacks some is multiplied by 3 over the
    number of places that are taken. Positions are learned for cube and place; those of places are resampled.

    A feature is the mean over the cubes of each place, normalised by the last layer.

    Args:
        spec: Data and plan.
        size: ``base``, ``large`` or ``huge``; all are published as files (``SpectralGPT.pth``).
        embed_dim: Numbers in a token instead of the size's.
        depth: Blocks instead of the size's.
        num_heads: Heads of attention instead of the size's.
        settings: See ``PlainViT``.

    Raises:
        InputError: Volumes, an unknown size or band.

    References:
        Hong et al., SpectralGPT: Spectral Remote Sensing Foundation Model, 2024.
    """

    family = "spectralgpt"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        **settings: Any,
    ) -> None:
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        super().__init__(spec, GROUPS, width=shape.embed_dim, depth=shape.depth, patch=PATCH, prefix=0, **settings)
        self.size = size
        self.bands = bands_like([c for g in GROUPS for c in g.channels], self.channels, self.family)
        self.cubes = [int(name) for name in self.places]
        self.mixing = mixing(self.bands, self.cubes)
        self.net: Any = _Net(shape._replace(depth=self.depths[-1] + 1))

    @property
    def stems(self) -> Mapping[str, str]:
        """None: the kernel is the same for all bands."""
        return {}

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With positions on the grid of the encoder; those of the second pretraining have 16 x 16 places."""
        return {
            key: _on_grid(tensor) if key.rpartition(".")[2] == "pos_embed_spatial" else tensor
            for key, tensor in state.items()
        }

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """As of every encoder; the account says which band's place each channel takes."""
        report = super().initialise(statistics)
        names = [c.name for g in GROUPS for c in g.channels]
        taken = zip(self.channels, self.bands, strict=True)
        return report and replace(report, channels=tuple((c.name, f"in the place of {names[i]}") for c, i in taken))

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m d"]:
        """Tokens of all places of the first cube, then of the next."""
        net, grid = self.net, self.grid(image)
        bands = torch.einsum("bchw,nc->bnhw", self.prepared(image), torch.tensor(self.mixing).to(image))
        tokens = net.patch_embed.proj(bands[:, None]).flatten(3).permute(0, 2, 3, 1)  # [b, g, n, d]
        by_place = resample(net.pos_embed_spatial[0].unflatten(0, (GRID, GRID)), grid).flatten(0, 1)
        return (tokens + by_place + net.pos_embed_temporal[0, self.cubes][:, None]).flatten(1, 2)


class _Net(nn.Module):
    """The upstream's encoder under its own names.

    Args:
        size: With only the blocks that features depend on.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        width, kernel = size.embed_dim, (CUBE, PATCH, PATCH)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(1, width, kernel, kernel)})
        self.pos_embed_spatial = nn.Parameter(0.02 * torch.randn(1, GRID**2, width))
        self.pos_embed_temporal = nn.Parameter(0.02 * torch.randn(1, len(GROUPS), width))
        self.blocks = nn.ModuleList(Block(width, size.num_heads, eps=1e-6) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width, 1e-6)


def mixing(bands: Sequence[int], cubes: Sequence[int]) -> list[list[float]]:
    """What each place in the cubes gets of each channel.

    Args:
        bands: Place of each channel among all bands.
        cubes: Those that have a channel.

    Example:
        >>> mixing([1, 1, 5], [0, 1])
        [[0.0, 0.0, 0.0], [1.5, 1.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    """
    taken = {cube: len({band for band in bands if band // CUBE == cube}) for cube in cubes}
    places = chain.from_iterable(range(CUBE * cube, CUBE * cube + CUBE) for cube in cubes)
    return [
        [CUBE / taken[place // CUBE] / bands.count(place) if band == place else 0.0 for band in bands]
        for place in places
    ]


def _on_grid(positions: Float[Tensor, "1 n d"]) -> Float[Tensor, "1 m d"]:
    """Positions of a square grid, on that of the encoder."""
    side = isqrt(positions.shape[1])
    if side == GRID or side**2 != positions.shape[1]:
        return positions
    return resample(positions[0].unflatten(0, (side, side)), (GRID, GRID)).flatten(0, 1)[None]
