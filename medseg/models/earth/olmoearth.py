"""OlmoEarth: a vision transformer over the groups of bands of Sentinel-2 or Landsat, and Sentinel-1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.earth import quarters
from medseg.models.earth.blocks import Block
from medseg.models.earth.dated_vit import DatedViT, masked_mean
from medseg.models.earth.groups import Group, group
from medseg.models.encoders.vit import Size, sized
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.sensors.bands import bands_of

SIZES = {
    "nano": Size(128, 4, 8), "tiny": Size(192, 12, 3), "small": Size(384, 12, 6), "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
}  # fmt: skip
PUBLISHED = {
    "v1": ("nano", "tiny", "base", "large"),
    "v1.1": ("nano", "tiny", "base"),
    "v1.2": ("nano", "tiny", "small", "base"),
}
"""Sizes of which there are weights, by version."""
BASE = 8
"""Cells of a patch for which kernels are trained; images are enlarged for smaller patches."""
_DAY_2000, _MONTH_DAYS = 10957, 30
"""Days from 1970 to 2000; days in the unit of the coordinates of dates."""

_SENTINEL2 = {
    "B2": (1188.94, 1859.19), "B3": (1407.77, 1727.74), "B4": (1513.06, 1740.78), "B8": (2755.48, 1612.26),
    "B5": (1890.99, 1754.73), "B6": (2483.78, 1622.12), "B7": (2722.73, 1621.82), "B8A": (2885.57, 1611.36),
    "B11": (2562.85, 1441.55), "B12": (1914.14, 1328.89), "B1": (1115.85, 1955.70), "B9": (3269.81, 2651.09),
}  # fmt: skip
_LANDSAT = {
    "B8": (10132.09, 7788.73), "B1": (11000.96, 7857.92), "B2": (10493.42, 7872.39), "B3": (10146.32, 7676.28),
    "B4": (10236.45, 8038.22), "B5": (14427.02, 9302.43), "B6": (12164.08, 7442.39), "B7": (9712.03, 6037.71),
    "B9": (4585.47, 2549.75), "B10": (21347.89, 10957.28), "B11": (19686.23, 9911.42),
}  # fmt: skip
_SENTINEL1 = {"VV": (-11.649, 10.8404), "VH": (-17.7454, 10.2163)}
_OPTICAL = {
    "sentinel2_l2a": ("sentinel-2", _SENTINEL2, (4, 6, 2)),
    "landsat": ("landsat-8", _LANDSAT, (1, 10)),
}
"""Sensor, mean and std of each band, and how many bands each token of version 1 has, by the upstream's modality."""
_RADAR = "sentinel1"


class OlmoEarth(DatedViT):
    """OlmoEarth: Sentinel-2 (L2A) or Landsat 8 and 9 (L1), Sentinel-1 (dB), or optical and radar together; 2D only.

    Version 1 has tokens of 10, 20 and 60 m of Sentinel-2 and of 15 and 30 m of Landsat, the later ones a token of
    each sensor. Patches have 1 to 8 cells; for less than 8 the image is enlarged, as upstream does. Places are
    encoded by their distance on the ground, so that any shape is taken; cells of 10 m are what the weights know.
    One date, or with ``temporal=native`` a series. Upstream's maps (elevation, land cover, ...) have no place here.

    A feature is the mean over dates and the tokens of a sensor, then over the sensors, normalised by the last layer.

    Args:
        spec: Data and plan.
        size: ``nano``, ``tiny``, ``small``, ``base`` or ``large``.
        version: ``v1``, ``v1.1`` or ``v1.2``.
        sensor: Of the optical bands: ``sentinel2_l2a`` or ``landsat``; None for the one that has more of them.
        patch: Cells of a patch on each axis.
        month: Of single images, from 1 to 12.
        cell_m: Cells on the ground, in metres; None for the spacing of the data.
        embed_dim: Numbers in a token instead of the size's; a multiple of 16.
        depth: Blocks instead of the size's.
        num_heads: Heads of attention instead of the size's.
        settings: See ``PlainViT``; for ``weights``, ``pretrained`` are those of the hub.

    Raises:
        InputError: Volumes, an unknown size, version, sensor or band, a patch or month out of range.

    References:
        Herzog et al., OlmoEarth: Stable Latent Image Modeling for Multimodal Earth Observation, 2025.
    """

    family = "olmoearth"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        version: str = "v1",
        sensor: str | None = None,
        patch: int = BASE,
        month: int = 7,
        cell_m: float | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        **settings: Any,
    ) -> None:
        _check(version, sensor, patch)
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        optical = sensor or _likely(spec.channels)
        groups = groups_of(optical, version) + groups_of(_RADAR, version)
        size_of = {"width": shape.embed_dim, "depth": shape.depth}
        super().__init__(spec, groups, patch=patch, month=month, cell_m=cell_m, **size_of, **settings)
        self.size, self.version, self.patch = size, version, patch
        counts = {name: len(places) for name, places in self.places.items()}
        self.net: Any = _Net(shape._replace(depth=self.depths[-1] + 1), counts, version, 12 if size == "nano" else 64)

    @property
    def stems(self) -> Mapping[str, str]:
        """What takes the bands of each token."""
        leaf = "proj.weight" if self.version == "v1" else "pixel_proj.0.weight"
        start = "patch_embeddings.per_modality_embeddings"
        return {name: f"{start}.{_modality(name)}.{name}.{leaf}" for name in self.places}

    @property
    def files(self) -> Mapping[str, str]:
        """Of the version."""
        start = f"hf-hub:allenai/OlmoEarth-{self.version.replace('.', '_')}"
        return {size: f"{start}-{size.capitalize()}/weights.pth" for size in PUBLISHED[self.version]}

    def patches(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b g n d"]:
        """Tokens of each group at each place of single images."""
        values = self.prepared(image)
        if self.patch != BASE:
            size = tuple(n * BASE for n in self.grid(image))
            values = functional.interpolate(values.float(), size, mode="bicubic", antialias=True)
        embeddings = self.net.patch_embeddings.per_modality_embeddings
        tokens = [embeddings[_modality(name)][name](self.of_group(values, name)) for name in self.places]
        return torch.stack(tokens, dim=1)

    def encoding(self, grid: Sequence[int], months: Int[Tensor, "b t"]) -> Float[Tensor, "b t g n d"]:
        """Of group, date, month and place; version 1.2 knows dates and places by turning tokens instead."""
        added = self.net.composite_encodings
        learned = [added.per_modality_channel_embeddings[_modality(name)][_number(name)] for name in self.places]
        by_month = added.month_embed.weight[months]
        by_place = quarters.of_places(grid, self.steps, by_month.shape[-1], months.device)
        absolute = self.version != "v1.2"
        return quarters.encoding(torch.stack(learned), by_month, by_place * float(absolute), slots=absolute)

    def coordinates(self, grid: Sequence[int], days: Int[Tensor, "b t"] | None) -> Tensor | None:
        """Of version 1.2: months since 2000, row and column of each token."""
        if self.version != "v1.2":
            return None
        device = self.net.norm.weight.device
        rows, columns = (torch.arange(float(n), device=device) * s for n, s in zip(grid, self.steps, strict=True))
        places = torch.cartesian_prod(rows, columns).repeat(self.dates * len(self.places), 1)
        since = torch.zeros((1, self.dates), device=device) if days is None else (days - _DAY_2000) / _MONTH_DAYS
        by_token = since.repeat_interleave(len(places) // self.dates, dim=1)
        return torch.cat((by_token[:, :, None], places.expand(len(by_token), -1, -1)), dim=2)

    def mean_of_dates(self, tokens: Float[Tensor, "b t g n d"], seen: Bool[Tensor, "b t g"]) -> Float[Tensor, "b n d"]:
        """Mean over dates and the tokens of each sensor, then over the sensors."""
        sensors = [_modality(name) for name in self.places]
        own = [[i for i, s in enumerate(sensors) if s == one] for one in dict.fromkeys(sensors)]
        return torch.stack([masked_mean(tokens[:, :, i].flatten(1, 2), seen[:, :, i].flatten(1)) for i in own]).mean(0)


class _Net(nn.Module):
    """The upstream's encoder under its own names, of the tokens that there are.

    Args:
        size: With only the blocks that features depend on.
        counts: Channels of each token.
        version: See ``OlmoEarth``.
        hidden: Numbers of each cell, from version 1.1 on.
    """

    def __init__(self, size: Size, counts: Mapping[str, int], version: str, hidden: int) -> None:
        super().__init__()
        width, axes = size.embed_dim, 3 if version == "v1.2" else 0
        modalities = dict.fromkeys(_modality(name) for name in counts)
        self.blocks = nn.ModuleList(Block(width, size.num_heads, axes) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width)
        self.composite_encodings = nn.Module()
        self.composite_encodings.month_embed = quarters.Months(width // 4)
        self.composite_encodings.per_modality_channel_embeddings = nn.ParameterDict({
            one: nn.Parameter(torch.randn(len(groups_of(one, version)), width // 4) * 0.02) for one in modalities
        })  # fmt: skip
        kernels = {one: nn.ModuleDict() for one in modalities}
        for name, count in counts.items():
            kernels[_modality(name)][name] = _Conv(count, width) if version == "v1" else _PerCell(count, width, hidden)
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.per_modality_embeddings = nn.ModuleDict(kernels)


class _Conv(nn.Module):
    """A kernel of a patch."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, BASE, BASE)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        return self.proj(image).flatten(2).transpose(1, 2)


class _PerCell(nn.Module):
    """A layer of each cell, then one of the patch."""

    def __init__(self, channels: int, width: int, hidden: int) -> None:
        super().__init__()
        self.pixel_proj = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.proj = nn.Linear(hidden * BASE**2, width)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        cells = self.pixel_proj(image.movedim(1, 3))
        patches = cells.unflatten(2, (-1, BASE)).unflatten(1, (-1, BASE)).transpose(2, 3)
        return self.proj(patches.flatten(3).flatten(1, 2))


def groups_of(modality: str, version: str) -> list[Group]:
    """The tokens of a modality in a version: the bands of each, in order."""
    if modality == _RADAR:
        return [group(f"{_RADAR}__0", bands_of(list(_SENTINEL1)), _SENTINEL1)]
    sensor, statistics, counts = _OPTICAL[modality]
    bands = bands_of(list(statistics), sensor)
    ends = list(accumulate(counts)) if version == "v1" else [len(bands)]
    parts = [bands[start:end] for start, end in pairwise([0, *ends])]
    return [group(f"{modality}__{i}", part, statistics) for i, part in enumerate(parts)]


def _modality(name: str) -> str:
    return name.partition("__")[0]


def _number(name: str) -> int:
    return int(name.partition("__")[2])


def _likely(channels: Sequence[Channel]) -> str:
    """The modality of which the data has more bands by name and wavelength; Sentinel-2 if equally many."""

    def count(modality: str) -> int:
        sensor, statistics, _ = _OPTICAL[modality]
        nm = {c.wavelength_nm for c in bands_of(list(statistics), sensor)}
        return sum(c.wavelength_nm in nm for c in channels if c.wavelength_nm is not None)

    return max(_OPTICAL, key=count)


def _check(version: str, sensor: str | None, patch: int) -> None:
    """Refuse settings out of range.

    Raises:
        InputError: See ``OlmoEarth``.
    """
    if version not in PUBLISHED:
        raise InputError(f"model.encoder.version={version}: expected one of {', '.join(PUBLISHED)}")
    if sensor is not None and sensor not in _OPTICAL:
        raise InputError(f"model.encoder.sensor={sensor}: expected one of {', '.join(_OPTICAL)}, or null")
    if not 1 <= patch <= BASE:
        raise InputError(f"model.encoder.patch={patch}: expected 1 to {BASE} cells")
