"""Clay: a vision transformer whose first kernels are made from wavelengths, by its published names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from math import cos, pi, sin
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.earth.clay_net import PATCH, WAVES, ClayNet
from medseg.models.encoders.published import Published
from medseg.models.encoders.vit import PlainViT, Size, sized
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.spectrum import wavelengths_nm
from medseg.sample import Channel
from medseg.sensors.bands import bands_of
from medseg.sensors.radar import polarisation
from medseg.weights.bands import partners
from medseg.weights.pretrained import Pretrained

SIZES = {"tiny": Size(192, 6, 4), "small": Size(384, 6, 6), "base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
RATIOS = {"tiny": 2, "small": 2, "base": 4, "large": 4}
"""Times that the layer between is wider than a token."""
FILE = "hf-hub:made-with-clay/Clay/v1.5/clay-v1.5.ckpt"
RADAR_NM = {"VV": 3500.0, "VH": 4000.0}
"""What stands for Sentinel-1 in the weights; no wavelengths."""
_KNOWN = 8
"""Numbers of a token that tell time and place: sine and cosine of week, hour, latitude and longitude."""
STATISTICS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "sentinel-2": {
        "B2": (1105, 1809), "B3": (1355, 1757), "B4": (1552, 1888), "B5": (1887, 1870), "B6": (2422, 1732),
        "B7": (2630, 1697), "B8": (2743, 1742), "B8A": (2785, 1648), "B11": (2388, 1470), "B12": (1835, 1379),
    },
    "landsat-8": {
        "B4": (13705, 9578), "B3": (13310, 9408), "B2": (12474, 10144), "B5": (17801, 8277), "B6": (14615, 5300),
        "B7": (12701, 4522),
    },
    "naip": {"RED": (110.16, 47.23), "GREEN": (115.41, 39.82), "BLUE": (98.15, 35.43), "NIR": (139.04, 49.86)},
}  # fmt: skip
"""Mean and std of the bands of each sensor, in raw values: Sentinel-2 L2A, Landsat's surface reflectance, NAIP."""
_RADAR = {"VV": (-12.113, 8.314), "VH": (-18.673, 8.017)}
"""Likewise, in decibels."""


class Clay(PlainViT):
    """Clay 1.5: takes any channels whose wavelength is known; 2D only.

    The first kernels come from a small transformer over the wavelengths, so that there is nothing to fit to other
    channels; ``VV`` and ``VH`` have the numbers that stand for them in the weights. Positions are sines of row and
    column times the size of a cell on the ground. Eight numbers of each token hold time and place, and 0 where these
    are unknown, as they were for a fifth of the images of the pretraining; they hold for all images, since a batch does
    not carry them. Each feature is normalised by the last layer.

    Args:
        spec: Data and plan.
        size: ``large``, which is published, ``base``, ``small`` or ``tiny``.
        day: Days since 1970-01-01, with the hour (UTC) as fraction; None if unknown. Of a whole number only the week is
            taken as known.
        place: Longitude and latitude of all images, in degrees; None if unknown.
        cell_m: Cells on the ground, in metres; None for the spacing of the data.
        embed_dim: Numbers in a token instead of the size's; a multiple of 4 and of the heads, at least 16.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        indices: Blocks after which features are taken; None for four evenly spaced.
        loading: See ``Encoder``; ``adapt`` has no effect here.

    Raises:
        InputError: Volumes, a channel without wavelength, or an unknown size.

    References:
        Clay Foundation Model, version 1.5, 2024.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "large",
        day: float | None = None,
        place: Sequence[float] | None = None,
        cell_m: float | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        if shape.embed_dim % 4 or shape.embed_dim % shape.num_heads or shape.embed_dim < 2 * _KNOWN:
            raise InputError(
                f"model.encoder.embed_dim={shape.embed_dim}: expected a multiple of 4 and of the {shape.num_heads} "
                "heads, at least 16"
            )
        super().__init__(
            spec, name="clay", width=shape.embed_dim, depth=shape.depth, patch=PATCH, indices=indices, **loading
        )
        self.size, self.known = size, known_numbers(day, place)
        self.cell_m = tuple(spec.spacing) if cell_m is None else (cell_m, cell_m)
        self.spectrum = [encoded(nm / 1000) for nm in wavelengths(self.channels)]
        self.net: Any = ClayNet(shape._replace(depth=self.depths[-1] + 1), RATIOS[size])

    @property
    def trunk(self) -> nn.Module:
        """The encoder without the decoder and the teacher of its pretraining."""
        return self.net

    @property
    def stem(self) -> str | None:
        """None: kernels are made for the channels."""
        return None

    def layers(self, image: Float[Tensor, "b c h w"]) -> Iterable[Callable[[Tensor], Tensor]]:
        """The blocks in order."""
        del image
        blocks: nn.ModuleList = self.net.transformer["layers"]
        return blocks.children()

    def fetch(self, source: str) -> Pretrained:
        """A file, or the authors' weights; with the statistics of the sensor that the wavelengths are of."""
        channels, statistics = trained(self.channels)
        mean, std = zip(*statistics, strict=True) if statistics else ((), ())
        words = "" if statistics else "channels standardised, with statistics of each sensor"
        about = Published({"large": FILE}, channels, mean, std, scale=1.0, normalisation=words)
        return about.fetch(source, self.size)

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token, which has no place, and one for each patch."""
        net = self.net
        kernel, bias = net.patch_embedding(torch.tensor(self.spectrum, device=image.device))
        patches = functional.conv2d(image, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
        placed = self._positions(self.grid(image), patches.shape[2], image.device).to(patches.dtype)
        return torch.cat((net.cls_token.expand(len(image), -1, -1), patches + placed), dim=1)

    def _positions(self, grid: tuple[int, int], width: int, device: torch.device) -> Float[Tensor, "n d"]:
        """Sines of column and row, which go with the size of a cell, then what is known of time and place."""
        length = width - _KNOWN
        quarter = torch.arange(length // 4, dtype=torch.float32, device=device) / (length // 4 - 1)
        omega = 10000 ** -(2 * quarter / length)
        rows, columns = (
            torch.outer(torch.arange(n, dtype=torch.float32, device=device), omega * cell)
            for n, cell in zip(grid, self.cell_m, strict=True)
        )
        by_row = torch.cat((rows.sin(), rows.cos()), dim=1)[:, None].expand(-1, grid[1], -1)
        by_column = torch.cat((columns.sin(), columns.cos()), dim=1)[None].expand(grid[0], -1, -1)
        known = torch.tensor(self.known, device=device).expand(*grid, -1)
        return torch.cat((by_column, by_row, known), dim=2).flatten(0, 1)

    def finish(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Normalised by the last layer."""
        return self.net.transformer["norm"](tokens)


def encoded(micrometres: float) -> list[float]:
    """Sines and then cosines of a wavelength."""
    angles = [micrometres * 10000 ** (-i / (WAVES // 2 - 1)) for i in range(WAVES // 2)]
    return [f(angle) for f in (sin, cos) for angle in angles]


def wavelengths(channels: Sequence[Channel]) -> list[float]:
    """Wavelength of each channel in nm, or what stands for radar.

    Raises:
        InputError: A channel without wavelength, or radar of other polarisations.
    """
    waves = list(wavelengths_nm(channels, "clay", radar_nm=0.0))
    for i, channel in enumerate(channels):
        kind = polarisation(channel.band)
        if channel.wavelength_nm is None and kind is not None:
            if kind not in RADAR_NM:
                raise InputError(
                    f"encoder clay knows the radar channels VV and VH, got {channel.name}; leave the channel out"
                )
            waves[i] = RADAR_NM[kind]
    return waves


def known_numbers(day: float | None, place: Sequence[float] | None) -> list[float]:
    """Sine and cosine of the ISO week, the hour, the latitude and the longitude; 0 for what is unknown.

    Raises:
        InputError: No longitude and latitude.

    Example:
        >>> [round(n, 3) for n in known_numbers(19724.25, [90.0, 0.0])]  # 2024-01-02, 6 o'clock
        [0.121, 0.993, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    """
    turns: list[float | None] = [None] * 4
    if day is not None:
        turns[0] = (date(1970, 1, 1) + timedelta(days=int(day // 1))).isocalendar().week / 52
        turns[1] = int(day % 1 * 24) / 24 if day % 1 else None
    if place is not None:
        if len(place) != 2 or not (-180 <= place[0] <= 180 and -90 <= place[1] <= 90):
            raise InputError(f"model.encoder.place={list(place)}: expected longitude and then latitude, in degrees")
        turns[2:] = place[1] / 360, place[0] / 360
    return [0.0 if turn is None else f(2 * pi * turn) for turn in turns for f in (sin, cos)]


def trained(channels: Sequence[Channel]) -> tuple[tuple[Channel, ...], list[tuple[float, float]]]:
    """Bands of the weights that the channels are, with mean and std of the sensor whose wavelengths they have.

    Example:
        >>> [c.name for c in trained(bands_of(["SR_B5", "SR_B10"], "landsat-8"))[0]]
        ['B5']
    """
    sensor = max(STATISTICS, key=lambda name: _agreeing(_bands(name), channels))
    seen = {c.wavelength_nm for c in channels}
    same = tuple(c for c in _bands(sensor) if c.wavelength_nm in seen)
    radar = tuple(Channel(name) for name in _RADAR)
    taken = [radar[i] for i in partners(radar, channels) if i is not None]
    values = [STATISTICS[sensor][c.name] for c in same] + [_RADAR[c.name] for c in taken]
    return (*same, *taken), values


def _bands(sensor: str) -> tuple[Channel, ...]:
    """Those of a sensor with statistics."""
    return bands_of(list(STATISTICS[sensor]), sensor)


def _agreeing(bands: Sequence[Channel], channels: Sequence[Channel]) -> tuple[int, int]:
    """How many wavelengths the channels have in common with a sensor, and how many names."""
    own = {c.wavelength_nm for c in bands}
    return sum(c.wavelength_nm in own for c in channels), sum(i is not None for i in partners(bands, channels))
