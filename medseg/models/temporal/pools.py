"""Pools: from features of every date to features of the series."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Pool(nn.Module, ABC):
    """Features of every date -> features of the series, of the same width.

    Subclasses take ``(widths, *, guide, dates, settings)``; their yaml stands within that of ``Pooled``.

    Attributes:
        fixed: Whether a series must have as many slots as the network was built for.

    Args:
        widths: Channels of each feature; the last holds for all further ones.
        guide: Index of the feature that describes a date, cell by cell.
        dates: Slots, t.
    """

    fixed: ClassVar[bool] = False

    def __init__(self, widths: Sequence[int], *, guide: int, dates: int) -> None:
        super().__init__()
        self.widths, self.guide, self.dates = tuple(widths), guide, dates

    @abstractmethod
    def forward(
        self, features: Sequence[Float[Tensor, "b t ..."]], present: Bool[Tensor, "b t"], days: Int[Tensor, "b t"]
    ) -> list[Tensor]:
        """Pooled features.

        Args:
            features: Each ``[b, t, w, *p]``; 0 where a date is missing.
            present: False for missing dates; each series has one that is not.
            days: Since 1970-01-01.

        Returns:
            Each ``[b, w, *p]``.
        """


class Mean(Pool):
    """Mean over the dates that are there: what is typical, whatever the order."""

    def forward(
        self, features: Sequence[Float[Tensor, "b t ..."]], present: Bool[Tensor, "b t"], days: Int[Tensor, "b t"]
    ) -> list[Tensor]:
        """Pooled features."""
        return [mean_of(feature, present) for feature in features]


class Max(Pool):
    """Largest value over the dates that are there: what has been at least once, whatever the order."""

    def forward(
        self, features: Sequence[Float[Tensor, "b t ..."]], present: Bool[Tensor, "b t"], days: Int[Tensor, "b t"]
    ) -> list[Tensor]:
        """Pooled features."""
        return [f.masked_fill(~_widened(present, f), torch.finfo(f.dtype).min).amax(1) for f in features]


class Concat(Pool):
    """A linear map of the features of all slots, one after another; missing dates are 0.

    It sees the order of dates, and has t times w times w weights a feature. It begins as the mean over all
    slots.

    Args:
        widths: As for every pool.
        guide: As for every pool.
        dates: As for every pool.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, widths: Sequence[int], *, guide: int, dates: int) -> None:
        super().__init__(widths, guide=guide, dates=dates)
        self.maps = nn.ModuleList(nn.Conv1d(dates * w, w, 1) if w else nn.Identity() for w in widths)
        for conv, w in zip(self.maps, widths, strict=True):
            if isinstance(conv, nn.Conv1d):
                with torch.no_grad():
                    conv.weight.copy_(torch.eye(w).repeat(1, dates)[..., None] / dates)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(
        self, features: Sequence[Float[Tensor, "b t ..."]], present: Bool[Tensor, "b t"], days: Int[Tensor, "b t"]
    ) -> list[Tensor]:
        """Pooled features."""
        pooled = []
        for i, feature in enumerate(features):
            linear = self.maps[min(i, len(self.maps) - 1)]
            if isinstance(linear, nn.Conv1d):
                pooled.append(linear(feature.flatten(1, 2).flatten(2)).unflatten(2, feature.shape[3:]))
            else:  # a feature that no logit depends on
                pooled.append(feature[:, 0])
        return pooled


def mean_of(feature: Float[Tensor, "b t *r"], present: Bool[Tensor, "b t"]) -> Float[Tensor, "b *r"]:
    """Mean over the dates that are there, of a feature that is 0 where a date is missing."""
    return feature.sum(1) / _widened(present, feature).sum(1).clamp(min=1)


def _widened(present: Bool[Tensor, "b t"], feature: Tensor) -> Tensor:
    return present.view(*present.shape, *[1] * (feature.ndim - 2))
