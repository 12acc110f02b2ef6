"""Presto: a transformer over the dates and groups of bands of each cell by itself, for time series of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, radians, sin
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.earth import quarters
from medseg.models.earth.dated_vit import DatedViT, masked_mean
from medseg.models.earth.groups import Group, of_groups
from medseg.models.encoders.encoder import Feature
from medseg.models.encoders.published import Published
from medseg.models.encoders.vit import Size, sized
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.sensors.bands import bands_of
from medseg.weights.pretrained import Pretrained

SIZES = {"base": Size(128, 2, 8)}
_BANDS = {
    "S1": ("VV", "VH"), "S2_RGB": ("B2", "B3", "B4"), "S2_Red_Edge": ("B5", "B6", "B7"), "S2_NIR_10m": ("B8",),
    "S2_NIR_20m": ("B8A",), "S2_SWIR": ("B11", "B12"), "ERA5": (), "SRTM": ("elevation", "slope"), "NDVI": ("NDVI",),
}  # fmt: skip
"""Bands by group, in the order of the learned vectors; of weather only the place in it is of use here."""
_TERRAIN = "SRTM"
_OTHERS = 1
"""Learned vectors after those of the groups: of the map of Dynamic World."""
GROUPS = tuple(
    Group(name, tuple(Channel(b) if name in (_TERRAIN, "NDVI") else bands_of([b], "sentinel-2")[0] for b in bands))
    for name, bands in _BANDS.items()
    if bands
)
PREPARATION = (
    "(radar in dB + 25) / 25, reflectance, elevation in m / 2,000, slope in degrees / 50, NDVI as it is: set plan.mean "
    "and plan.std to that (plan.normalisation=standard, reflectances x 10,000: mean 0, std 10000)"
)
_RATE = 1000.0


class Presto(DatedViT):
    """Presto: cells of Sentinel-1 (dB), Sentinel-2, ``NDVI``, ``elevation`` and ``slope`` over time; 2D only.

    Each cell is a sequence of its own: it sees its dates and groups of bands, and no other cell. So features have the
    resolution of the image, and nothing of texture or shape; a decoder has to bring that. It is made for series,
    ``temporal=native``; of one date there is little to see. Memory grows with cells times dates times groups.

    The pretraining divided by constants (see ``PREPARATION``), which ``plan.mean`` and ``plan.std`` have to say.
    Upstream's weather and map of land cover have no place here.

    A feature is the mean over the tokens of a cell, normalised by the last layer.

    Args:
        spec: Data and plan.
        size: ``base``, the only one.
        month: Of single images, from 1 to 12.
        place: Longitude and latitude of all images, in degrees; None for no token of the place.
        embed_dim: Numbers in a token instead of the size's; a multiple of 16.
        depth: Blocks instead of the size's.
        num_heads: Heads of attention instead of the size's.
        indices: Blocks after which features are taken; None for the last.
        loading: See ``Encoder``.

    Raises:
        InputError: Volumes, an unknown size or band, a month or place out of range.

    References:
        Tseng et al., Lightweight, Pre-trained Transformers for Remote Sensing Timeseries, 2023.
    """

    family = "presto"
    static = (_TERRAIN,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        month: int = 7,
        place: Sequence[float] | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        blocks = [shape.depth - 1] if indices is None else indices
        size_of = {"width": shape.embed_dim, "depth": shape.depth, "indices": blocks}
        super().__init__(spec, GROUPS, patch=1, month=month, cell_m=None, **size_of, **loading)
        self.features = tuple(Feature(shape.embed_dim, (1, 1)) for _ in self.depths)
        self.size, self.place = size, None if place is None else _on_sphere(place)
        counts = {name: len(places) for name, places in self.places.items()}
        self.net: Any = _Net(shape._replace(depth=self.depths[-1] + 1), counts, placed=place is not None)

    @property
    def stems(self) -> Mapping[str, str]:
        """The layer of each group."""
        return {name: f"eo_patch_embed.{name}.weight" for name in self.places}

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the positions of dates, which were computed."""
        return {key: tensor for key, tensor in state.items() if not key.endswith("pos_embed")}

    def fetch(self, source: str) -> Pretrained:
        """A file; see ``Published``."""
        seen = of_groups(self.groups, list(self.places))
        return Published(channels=seen.channels, normalisation=PREPARATION).fetch(source, self.size)

    def patches(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b g n d"]:
        """Tokens of each group of each cell."""
        cells = image.flatten(2).transpose(1, 2)
        layers = self.net.eo_patch_embed
        return torch.stack([layers[name](cells[..., list(places)]) for name, places in self.places.items()], dim=1)

    def encoding(self, grid: Sequence[int], months: Int[Tensor, "b t"]) -> Float[Tensor, "b t g 1 d"]:
        """Of month, group and number of the date; terrain has neither month nor date."""
        del grid
        net, names = self.net, list(_BANDS)
        by_month = net.month_embed.weight[months][:, :, None]
        by_group = net.channel_embed.weight[[names.index(name) for name in self.places]][None, None]
        by_date = _alternating(self.dates, 2 * by_month.shape[-1], months.device)[None, :, None]
        dated = torch.tensor([float(name != _TERRAIN) for name in self.places], device=months.device)[:, None]
        shape = (*months.shape, len(self.places), -1)
        return torch.cat(
            ((by_month * dated).expand(shape), by_group.expand(shape), (by_date * dated).expand(shape)), dim=-1
        )[:, :, :, None]

    def forward(
        self,
        image: Float[Tensor, "b tc h w"],
        present: Bool[Tensor, "b t"] | None = None,
        days: Int[Tensor, "b t"] | None = None,
    ) -> list[Tensor]:
        """The declared features; see ``DatedViT``."""
        rows, columns = image.shape[2:]
        groups = self.dates * len(self.places)
        tokens = self.embed(image, self.days_of(image, days)).unflatten(1, (groups, -1))
        by_cell = tokens.transpose(1, 2).flatten(0, 1)
        seen = self.visible(image, present).flatten(1).repeat_interleave(rows * columns, dim=0)
        if self.place is not None:
            located = self.net.latlon_embed(torch.tensor(self.place).to(by_cell)).expand(len(by_cell), 1, -1)
            by_cell, seen = torch.cat((located, by_cell), dim=1), nn.functional.pad(seen, (1, 0), value=True)
        features = []
        for depth, block in enumerate(self.net.blocks):
            by_cell = block(by_cell, attn_mask=seen[:, None, None])
            if depth in self.depths:
                mean = self.net.norm(masked_mean(by_cell[:, :, None], seen)[:, 0])
                features.append(mean.unflatten(0, (len(image), rows, columns)).movedim(3, 1))
        return features


class _Net(nn.Module):
    """The upstream's encoder under its own names, of the groups that there are.

    Args:
        size: With only the blocks that features depend on.
        counts: Channels of each group.
        placed: Whether there is a token of the place.
    """

    def __init__(self, size: Size, counts: Mapping[str, int], *, placed: bool) -> None:
        super().__init__()
        width = size.embed_dim
        self.eo_patch_embed = nn.ModuleDict({name: nn.Linear(count, width) for name, count in counts.items()})
        if placed:
            self.latlon_embed = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            Block(width, size.num_heads, mlp_ratio=2, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.month_embed = quarters.Months(width // 4)
        self.channel_embed = nn.Embedding(len(_BANDS) + _OTHERS, width // 4)


def _alternating(dates: int, width: int, device: torch.device) -> Float[Tensor, "t d"]:
    r"""Numbers of dates: a sine and a cosine in turn, of :math:`t / 1000^{2 i / d}`."""
    rate = _RATE ** -(torch.arange(0.0, width, 2, device=device) / width)
    angles = torch.outer(torch.arange(float(dates), device=device), rate)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def _on_sphere(place: Sequence[float]) -> tuple[float, float, float]:
    """A place as a point of the unit sphere.

    Raises:
        InputError: It is none.
    """
    if len(place) != 2 or not (-180 <= place[0] <= 180 and -90 <= place[1] <= 90):
        raise InputError(f"model.encoder.place={list(place)}: expected longitude and then latitude, in degrees")
    lon, lat = (radians(float(degrees)) for degrees in place)
    return cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat)
