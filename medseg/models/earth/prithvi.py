"""Prithvi: transformers of NASA and IBM for optical images of one date or several, by their published names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.earth.dates import token_mask, year_and_day
from medseg.models.encoders.published import Published
from medseg.models.encoders.vit import PlainViT, Size, sine_positions, sines, sized
from medseg.models.network import ModelSpec
from medseg.sample import Channel
from medseg.sensors.wavelengths import MSI
from medseg.weights.pretrained import Pretrained

SIZES = {
    "tiny": Size(256, 4, 4), "v1_100": Size(768, 12, 12), "v2_tiny_tl": Size(192, 12, 3),
    "v2_100_tl": Size(768, 12, 12), "v2_300": Size(1024, 24, 16), "v2_300_tl": Size(1024, 24, 16),
    "v2_600": Size(1280, 32, 16), "v2_600_tl": Size(1280, 32, 16),
}  # fmt: skip
BANDS = tuple(Channel(name, wavelength_nm=MSI[name]) for name in ("B2", "B3", "B4", "B8A", "B11", "B12"))
"""Of Harmonized Landsat and Sentinel-2 (HLS), in the order of the weights; raw values are reflectance x 10,000."""
_NAMES = {
    "v2_tiny_tl": "tiny-TL", "v2_100_tl": "100M-TL", "v2_300": "300M", "v2_300_tl": "300M-TL", "v2_600": "600M",
    "v2_600_tl": "600M-TL",
}  # fmt: skip
FIRST = Published(
    {"v1_100": "hf-hub:ibm-nasa-geospatial/Prithvi-EO-1.0-100M/Prithvi_EO_V1_100M.pt"},
    BANDS,
    mean=(775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
    std=(1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
    scale=1.0,
)
SECOND = Published(
    {
        size: f"hf-hub:ibm-nasa-geospatial/Prithvi-EO-2.0-{name}/Prithvi_EO_V2_{name.replace('-', '_')}.pt"
        for size, name in _NAMES.items()
    },
    BANDS,
    mean=(1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0),
    std=(2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0),
    scale=1.0,
)
TRAINED_CELLS = 224
"""Cells of a side of the images of the weights; positions of other images are stretched from theirs."""


class Prithvi(PlainViT):
    """Prithvi-EO 1.0 and 2.0: images of one date, or all dates of a time series in one transformer; 2D only.

    Each patch of each date is a token, whose position is a sine of column, row and date; with ``temporal=native``
    tokens attend to those of all dates that are there. A feature has the tokens of all dates side by side, and 0 for
    those that are missing; with several dates there is no class token. The feature of the last block is normalised by
    the last layer.

    Sizes that end in ``tl`` add the date (year and day of the year) and the place (latitude and longitude) to each
    token, where they are known: the days of a time series, or ``day``; and ``place``, which holds for all images, since
    a batch does not carry it.

    Args:
        spec: Data and plan; ``dates`` of it above 1 come from ``temporal=native``.
        size: Of ``SIZES``: version, millions of parameters, ``tl`` with date and place. All but ``tiny`` are published.
        day: Of images of one date: days since 1970-01-01; None if unknown.
        place: Longitude and latitude of all images, in degrees; None if unknown.
        embed_dim: Numbers in a token instead of the size's; a multiple of 16.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        indices: Blocks after which features are taken; None for four evenly spaced.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` are those of the authors on the hub of Hugging Face.

    Raises:
        InputError: Volumes, an unknown size, a date or a place for a size that has none of them.

    References:
        Jakubik et al., Foundation Models for Generalist Geospatial Artificial Intelligence, 2023;
        Szwarcman et al., Prithvi-EO-2.0, 2024.
    """

    takes_dates = True

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "v2_300",
        day: float | None = None,
        place: Sequence[float] | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        chosen = sized(SIZES, size, embed_dim, depth, num_heads)
        _check(size, chosen, spec.dates, day, place)
        of_one = spec.of_one_date
        super().__init__(
            of_one,
            name="prithvi",
            width=chosen.embed_dim * spec.dates,
            depth=chosen.depth,
            patch=14 if "600" in size else 16,
            indices=indices,
            prefix=1 if spec.dates == 1 else 0,
            **loading,
        )
        self.size, self.dates, self.day = size, spec.dates, day
        self.place = None if place is None else (float(place[0]), float(place[1]))
        last = self.depths[-1] + 1
        self.net: Any = _Net(
            chosen._replace(depth=last), self.divisor[0], of_one.in_channels, normalised=last == chosen.depth
        )
        if size.endswith("_tl"):
            self.net.temporal_embed_enc = _Scale(trained=spec.dates > 1 or day is not None)
            self.net.location_embed_enc = _Scale(trained=place is not None)

    @property
    def trunk(self) -> nn.Module:
        """The transformer without the decoder of its pretraining."""
        return self.net

    @property
    def stem(self) -> str | None:
        """The kernel of the patches."""
        return "patch_embed.proj.weight"

    def fetch(self, source: str) -> Pretrained:
        """A file, or the weights of the authors."""
        return (FIRST if self.size in FIRST.files else SECOND).fetch(source, self.size)

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the positions of the file, which were computed."""
        return {key: tensor for key, tensor in state.items() if not key.endswith("pos_embed")}

    def forward(
        self,
        image: Float[Tensor, "b tc h w"],
        present: Bool[Tensor, "b t"] | None = None,
        days: Int[Tensor, "b t"] | None = None,
    ) -> list[Tensor]:
        """The declared features.

        Args:
            image: Channels of date after date.
            present: False for missing dates; None if none is.
            days: See ``SeriesNetwork``.
        """
        tokens = self.embed(image, days)
        mask = None if present is None else token_mask(present, tokens.shape[1])
        features = []
        for depth, block in enumerate(self.net.blocks):
            tokens = block(tokens, attn_mask=mask)
            if depth in self.depths:
                features.append(
                    self._feature(self.net.norm(tokens) if depth + 1 == self.full_depth else tokens, present)
                )
        return features

    def embed(self, image: Float[Tensor, "b tc h w"], days: Int[Tensor, "b t"] | None = None) -> Float[Tensor, "b n d"]:
        """The class token, whose place is 0, and one for each patch of date after date."""
        net, rows_columns = self.net, self.grid(image)
        patches = net.patch_embed.proj(image.unflatten(1, (self.dates, -1)).flatten(0, 1)).flatten(2).transpose(1, 2)
        width = patches.shape[2]
        by_date = sines(width // 4, torch.arange(self.dates, dtype=torch.float32, device=image.device))
        in_plane = self._in_plane(rows_columns, width * 3 // 4, image.device)
        placed = torch.cat(
            (
                in_plane.expand(self.dates, -1, -1),
                by_date[:, None].expand(-1, in_plane.shape[0], -1),
            ),
            dim=2,
        )
        known = self._known(len(image), days, width, image.device)
        tokens = patches.unflatten(0, (-1, self.dates)) + (placed if known is None else placed + known).to(
            patches.dtype
        )
        return torch.cat((net.cls_token.expand(len(image), -1, -1), tokens.flatten(1, 2)), dim=1)

    def _in_plane(self, grid: tuple[int, int], width: int, device: torch.device) -> Float[Tensor, "n d"]:
        """Sines of column and row on the grid of the weights, stretched to that of the image."""
        side = TRAINED_CELLS // self.divisor[0]
        places = torch.arange(side, dtype=torch.float32, device=device)
        trained = sine_positions(width, places, places)
        if grid == (side, side):
            return trained
        planes = trained.unflatten(0, (side, side)).permute(2, 0, 1)[None]
        return functional.interpolate(planes, grid, mode="bicubic", align_corners=True)[0].flatten(1).transpose(0, 1)

    def _known(
        self, batch: int, days: Int[Tensor, "b t"] | None, width: int, device: torch.device
    ) -> Float[Tensor, "b t 1 d"] | None:
        """What date and place add to the tokens of each date; None where neither is known."""
        if not self.size.endswith("_tl"):
            return None
        added = []
        if self.dates > 1 or self.day is not None:
            if days is None:
                days = torch.arange(self.dates, device=device).expand(batch, -1) + int(self.day or 0)
            parts = [sines(width // 2, part) for part in year_and_day(days)]
            added.append(self.net.temporal_embed_enc.scale * torch.cat(parts, dim=-1)[:, :, None])
        if self.place is not None:
            longitude, latitude = self.place
            parts = [sines(width // 2, torch.tensor([degrees], device=device)) for degrees in (latitude, longitude)]
            added.append(self.net.location_embed_enc.scale * torch.cat(parts, dim=-1)[None, None])
        return sum(added[1:], added[0]) if added else None

    def _feature(self, tokens: Float[Tensor, "b n d"], present: Bool[Tensor, "b t"] | None) -> Tensor:
        """Tokens of a single date; of several, their patches side by side, 0 where a date is missing."""
        if self.dates == 1:
            return tokens
        by_date = tokens[:, 1:].unflatten(1, (self.dates, -1))
        if present is not None:
            by_date = by_date.masked_fill(~present[:, :, None, None], 0)
        return by_date.transpose(1, 2).flatten(2)


class _Net(nn.Module):
    """The parameters, under the names of the authors."""

    def __init__(self, size: Size, patch: int, channels: int, *, normalised: bool) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, size.embed_dim, patch, patch)})
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, size.embed_dim))
        self.blocks = nn.ModuleList(
            Block(size.embed_dim, size.num_heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.embed_dim) if normalised else nn.Identity()


class _Scale(nn.Module):
    """Factor of what date or place add; frozen where it is unknown, since nothing would train it."""

    def __init__(self, *, trained: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.1), requires_grad=trained)


def _check(size: str, shape: Size, dates: int, day: float | None, place: Sequence[float] | None) -> None:
    """Raise unless the settings fit each other.

    Raises:
        InputError: See ``Prithvi``.
    """
    if shape.embed_dim % 16:
        raise InputError(f"model.encoder.embed_dim={shape.embed_dim}: expected a multiple of 16")
    given = [key for key, value in (("day", day), ("place", place)) if value is not None]
    if given and not size.endswith("_tl"):
        raise InputError(
            f"model.encoder.{given[0]}: prithvi of size {size} takes neither date nor place; choose a size that ends "
            "in _tl, such as v2_300_tl"
        )
    if day is not None and dates > 1:
        raise InputError("model.encoder.day: time series have days of their own; set it to null")
    if place is not None and (len(place) != 2 or not (-180 <= place[0] <= 180 and -90 <= place[1] <= 90)):
        raise InputError(f"model.encoder.place={list(place)}: expected longitude and then latitude, in degrees")
