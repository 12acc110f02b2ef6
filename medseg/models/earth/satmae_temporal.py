"""The temporal SatMAE: a vision transformer over the dates of colour images, which knows year, month and hour."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.earth.dated_vit import masked_mean
from medseg.models.earth.dates import month_of, token_mask, year_and_day
from medseg.models.encoders.published import Published
from medseg.models.encoders.vit import PlainViT, Size, fill_with_sines, sines, sized
from medseg.models.network import ModelSpec
from medseg.sensors.bands import bands_of
from medseg.weights.pretrained import Pretrained

SIZES = {"base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
PATCH, GRID, FIRST_YEAR = 16, 14, 2002
"""Cells of a patch, and places of the published positions, on each axis; the year that counts as 0."""
PUBLISHED = Published(
    channels=bands_of(["R", "G", "B"]),
    mean=(0.418201, 0.421480, 0.399128),
    std=(0.287743, 0.275418, 0.276402),
    scale=255.0,
)
"""Of fMoW, in images of 8 bits."""


class SatMaeTemporal(PlainViT):
    """SatMAE of colour images over time: of one date, or with ``temporal=native`` of all dates of a series; 2D only.

    The last 384 numbers of each token say the year, the month and the hour, the others the place, whose positions are
    resampled to the image. Tokens attend to those of all dates that are there. The hour is set for all images.

    A feature is the class token and the mean over the dates at each place, normalised by the last layer.

    Args:
        spec: Data and plan; ``dates`` of it above 1 come from ``temporal=native``.
        size: ``large``, which is published as a file (``pretrain_fmow_temporal.pth``), or ``base``.
        day: Of single images: days since 1970-01-01; None if unknown, which nothing says then.
        hour: Of all images, from 0 to 23.
        embed_dim: Numbers in a token instead of the size's; a multiple of 16.
        depth: Blocks instead of the size's.
        num_heads: Heads of attention instead of the size's.
        settings: See ``PlainViT``.

    Raises:
        InputError: Volumes, an unknown size, an hour that is none, a day of a series.

    References:
        Cong et al., SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite Imagery, 2022.
    """

    takes_dates = True

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "large",
        day: int | None = None,
        hour: int = 12,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        **settings: Any,
    ) -> None:
        shape = sized(SIZES, size, embed_dim, depth, num_heads)
        _check(shape, day, hour, spec.dates)
        of_one = spec.of_one_date
        size_of: dict[str, Any] = {"width": shape.embed_dim, "depth": shape.depth}
        super().__init__(of_one, name="satmae_temporal", patch=PATCH, **size_of, **settings)
        self.size, self.dates, self.day, self.hour = size, spec.dates, day, hour
        self.net: Any = _Net(shape._replace(depth=self.depths[-1] + 1), of_one.in_channels)

    @property
    def trunk(self) -> nn.Module:
        """The transformer without the decoder of its pretraining."""
        return self.net

    @property
    def stem(self) -> str | None:
        """The kernel of the patches."""
        return "patch_embed.proj.weight"

    def fetch(self, source: str) -> Pretrained:
        """A file; see ``Published``."""
        return PUBLISHED.fetch(source, self.size)

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
            days: See ``SeriesNetwork``; None numbers the slots of a series.
        """
        tokens = self.embed(image, days)
        mask = None if present is None else token_mask(present, tokens.shape[1])
        every = torch.ones((len(image), self.dates), dtype=torch.bool, device=image.device)
        seen = every if present is None else present
        features = []
        for depth, block in enumerate(self.net.blocks):
            tokens = block(tokens, attn_mask=mask)
            if depth in self.depths:
                ahead, placed = self.net.norm(tokens).tensor_split([1], dim=1)
                features.append(torch.cat((ahead, masked_mean(placed.unflatten(1, (self.dates, -1)), seen)), dim=1))
        return features

    def embed(self, image: Float[Tensor, "b tc h w"], days: Int[Tensor, "b t"] | None = None) -> Float[Tensor, "b m d"]:
        """The class token, which has no date, and one for each patch of date after date."""
        net = self.net
        patches = net.patch_embed.proj(image.unflatten(1, (self.dates, -1)).flatten(0, 1)).flatten(2).transpose(1, 2)
        positions = resample_abs_pos_embed(net.pos_embed, self.grid(image))
        by_date = self._of_dates(len(image), days, image.device)[:, :, None].expand(-1, -1, patches.shape[1], -1)
        placed = positions[:, None, 1:].expand(len(by_date), self.dates, -1, -1)
        tokens = patches.unflatten(0, (-1, self.dates)) + torch.cat((placed, by_date), dim=3).to(patches.dtype)
        ahead = net.cls_token + nn.functional.pad(positions[:, :1], (0, by_date.shape[3]))
        return torch.cat((ahead.expand(len(image), -1, -1), tokens.flatten(1, 2)), dim=1)

    def _of_dates(self, batch: int, days: Int[Tensor, "b t"] | None, device: torch.device) -> Float[Tensor, "#b t e"]:
        """Sines of year, month and hour; 0 where the day is unknown."""
        width = self.features[0].channels - self.net.pos_embed.shape[2]
        if days is None and self.dates == 1 and self.day is None:
            return torch.zeros((1, 1, width), device=device)
        if days is None:
            days = torch.arange(self.dates, device=device).expand(batch, -1) + (self.day or 0)
        year, _ = year_and_day(days)
        parts = (year - FIRST_YEAR, month_of(days).float() - 1, torch.full_like(year, float(self.hour)))
        return torch.cat([sines(width // 3, part) for part in parts], dim=-1)


class _Net(nn.Module):
    """The upstream's encoder under its own names.

    Args:
        size: With only the blocks that features depend on.
        channels: Of one date.
    """

    def __init__(self, size: Size, channels: int) -> None:
        super().__init__()
        width, norm = size.embed_dim, partial(nn.LayerNorm, eps=1e-6)
        of_date = 3 * min(128, width // 4)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, PATCH, PATCH)})
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, width - of_date))
        fill_with_sines(self.pos_embed)
        self.blocks = nn.Sequential(
            *(Block(width, size.num_heads, qkv_bias=True, norm_layer=norm) for _ in range(size.depth))
        )
        self.norm = norm(width)


def _check(shape: Size, day: int | None, hour: int, dates: int) -> None:
    """Refuse settings that are out of range.

    Raises:
        InputError: See ``SatMaeTemporal``.
    """
    if shape.embed_dim % 16:
        raise InputError(f"model.encoder.embed_dim={shape.embed_dim}: expected a multiple of 16")
    if not 0 <= hour < 24:
        raise InputError(f"model.encoder.hour={hour}: expected an hour from 0 to 23")
    if day is not None and dates > 1:
        raise InputError("model.encoder.day: time series have days of their own; set it to null")
