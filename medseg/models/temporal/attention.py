"""Attention: which dates count, cell by cell and head by head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import tau

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.temporal.pools import Pool

YEAR_DAYS = 365.2425
_HARMONICS = 4  # of the year: the fourth tells about three weeks apart
_RATES = 8  # of elapsed time, from radians a day to radians in a thousand days
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Attention(Pool):
    r"""A weighted mean over the dates, with weights for each cell and each head, and which dates these were.

    .. math::
        w_{h,t} = softmax_t \, q_h \cdot GELU(W_h \, norm(f_t) + V_h \, e_t), \quad
        g_h = \sum_t w_{h,t} f_{h,t} + P_h \sum_t w_t \otimes e_t

    with f the features of a cell of the guiding grid and e the encoding of the day. Head h weighs the h-th
    part of the channels. The second term tells when it was what the first one shows, such as the day on which a
    field was greenest; it begins as 0 (without it, 0.82 instead of 0.87, see ``pooled.GUIDE_STRIDE``). On other
    grids both are interpolated. Weights of missing dates are exactly 0, and a single date has the weight 1. Heads
    begin with preferences for days that differ (with weights that begin nearly equal, 0.71 instead of 0.81).

    The master query of each head, the groups of channels, values that know their day and the reuse of the weights
    on other grids are L-TAE's and U-TAE's. Different from them: with a fixed query and linear keys, a head is one
    linear map of its features, so a GELU stands between; the encoding has the season, so that years are alike; the
    guiding grid is a fine one; no layer follows.

    Args:
        widths: As for every pool.
        guide: As for every pool.
        dates: As for every pool; networks take any number of slots.
        heads: Number of heads, at most that of the channels.
        key_width: Length of a query.

    References:
        Garnot and Landrieu, Lightweight Temporal Self-Attention, 2020, and Panoptic Segmentation of Satellite
        Image Time Series with Convolutional Temporal Attention Networks, 2021.
    """

    def __init__(self, widths: Sequence[int], *, guide: int, dates: int, heads: int = 16, key_width: int = 8) -> None:
        super().__init__(widths, guide=guide, dates=dates)
        if heads < 1 or key_width < 1:
            raise InputError(f"temporal.pool: got heads={heads} and key_width={key_width}, expected 1 or more")
        self.heads, self.key_width = min(heads, max(widths)), key_width
        width, keys = self.widths[guide], self.heads * key_width
        self.norm = nn.LayerNorm(width)
        self.content = nn.Linear(width, keys)
        self.time = nn.Linear(2 * (_HARMONICS + _RATES), keys, bias=False)
        nn.init.normal_(self.time.weight, std=0.5)
        self.query = nn.Parameter(torch.randn(self.heads, key_width))
        encoded = self.heads * 2 * (_HARMONICS + _RATES)
        self.when = nn.ModuleList(nn.Conv1d(encoded, w, 1, bias=False) if w else nn.Identity() for w in self.widths)
        for linear in self.when:
            if isinstance(linear, nn.Conv1d):
                nn.init.zeros_(linear.weight)

    def forward(
        self, features: Sequence[Float[Tensor, "b t ..."]], present: Bool[Tensor, "b t"], days: Int[Tensor, "b t"]
    ) -> list[Tensor]:
        """Pooled features."""
        guide = features[self.guide]
        cells, encoded = guide.shape[3:], day_encoding(days, present).to(guide)
        weight = self.weight(guide.flatten(3), present, encoded)
        summary = torch.einsum("bhtp,bte->bhep", weight, encoded).flatten(1, 2)
        pooled = []
        for i, feature in enumerate(features):
            shape, linear = feature.shape[3:], self.when[min(i, len(self.when) - 1)]
            mean = self._weighted(feature, _resized(weight.flatten(1, 2), cells, shape).unflatten(1, weight.shape[1:3]))
            pointwise = isinstance(linear, nn.Conv1d)
            pooled.append(mean + _resized(linear(summary), cells, shape) if pointwise else mean)
        return pooled

    def weight(
        self, guide: Float[Tensor, "b t w p"], present: Bool[Tensor, "b t"], encoded: Float[Tensor, "b t e"]
    ) -> Float[Tensor, "b h t p"]:
        """Weight of each date, in [0, 1], with a sum of 1 over the dates."""
        content = self.content(self.norm(guide.movedim(2, 3)))
        keys = functional.gelu(content + self.time(encoded)[:, :, None]).unflatten(-1, (self.heads, self.key_width))
        score = (keys * self.query).sum(-1).float().permute(0, 3, 1, 2)
        least = torch.finfo(score.dtype).min
        return score.masked_fill(~present[:, None, :, None], least).softmax(2).to(guide)

    def _weighted(
        self, feature: Float[Tensor, "b t w *p"], weight: Float[Tensor, "b h t *p"]
    ) -> Float[Tensor, "b w *p"]:
        edges = [feature.shape[2] * h // self.heads for h in range(self.heads + 1)]
        parts = [
            (feature[:, :, a:b] * weight[:, h, :, None]).sum(1) for h, (a, b) in enumerate(pairwise(edges)) if a < b
        ]
        return torch.cat(parts, 1) if parts else feature[:, 0]


def day_encoding(days: Int[Tensor, "b t"], present: Bool[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
    """Sines and cosines of the season, which are alike in every year, and of the days since the first date."""
    first = days.masked_fill(~present, torch.iinfo(days.dtype).max).amin(1, keepdim=True)
    order = torch.arange(1, _HARMONICS + 1, device=days.device)
    season = (days.double() / YEAR_DAYS)[..., None] * tau * order
    rate = 1000.0 ** -torch.linspace(0, 1, _RATES, device=days.device, dtype=torch.double)
    elapsed = (days - first).double()[..., None] * rate
    angle = torch.cat([season, elapsed], -1).masked_fill(~present[..., None], 0)
    return torch.cat([angle.sin(), angle.cos()], -1).float()


def _resized(maps: Float[Tensor, "b n p"], shape: Sequence[int], target: Sequence[int]) -> Tensor:
    """Maps of a grid on another grid; their mean over all cells where that is no grid of as many axes."""
    if len(shape) != len(target):
        return maps.mean(2).view(*maps.shape[:2], *[1] * len(target))
    planes = maps.unflatten(2, tuple(shape))
    if tuple(shape) == tuple(target):
        return planes
    return functional.interpolate(planes, tuple(target), mode=_LINEAR[len(target)], align_corners=False)
