"""DatedViT: a token for each group of bands of each date at each place, with the month and the number of the date."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.models.earth import quarters
from medseg.models.earth.dates import month_of
from medseg.models.earth.grouped_vit import GroupedViT
from medseg.models.earth.groups import Group
from medseg.models.network import ModelSpec


class DatedViT(GroupedViT):
    """See ``GroupedViT``; of one date, or with ``temporal=native`` of all dates of a time series in one transformer.

    Tokens attend to those of all dates that are there. A feature is the mean over these dates too. The month of a date
    is that of its day; of single images it is set.

    Attributes:
        dates: Slots of a series; 1 of single images.
        steps: Distance of neighbouring patches on each axis.

    Args:
        spec: Data and plan; ``dates`` of it above 1 come from ``temporal=native``.
        groups: See ``GroupedViT``.
        patch: Cells of a patch on each axis.
        month: Of single images, from 1 to 12.
        cell_m: Cells on the ground, in metres; None for the spacing of the data.
        settings: See ``PlainViT``.

    Raises:
        InputError: See ``GroupedViT``; a month that is none; a width that the parts of the encoding can't share.
    """

    takes_dates = True
    static: ClassVar[Collection[str]] = ()
    """Groups that are the same on all dates."""

    def __init__(
        self,
        spec: ModelSpec,
        groups: Sequence[Group],
        *,
        patch: int,
        month: int,
        cell_m: float | None,
        **settings: Any,
    ) -> None:
        if settings["width"] % 16:
            raise InputError(f"model.encoder.embed_dim={settings['width']}: expected a multiple of 16")
        super().__init__(spec.of_one_date, groups, patch=patch, prefix=0, **settings)
        self.dates, self.month = spec.dates, quarters.check_month(month)
        self.steps = quarters.steps(spec.spacing, cell_m, patch)

    @abstractmethod
    def patches(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b g n d"]:
        """Tokens of each group at each place of single images."""

    @abstractmethod
    def encoding(self, grid: Sequence[int], months: Int[Tensor, "b t"]) -> Float[Tensor, "b t g n d"]:
        """What is added to the tokens, of months from 0."""

    def coordinates(self, grid: Sequence[int], days: Int[Tensor, "b t"] | None) -> Tensor | None:
        """Coordinates of the tokens by which blocks turn them; None where they do not."""
        return None

    def visible(self, image: Float[Tensor, "b tc h w"], present: Bool[Tensor, "b t"] | None) -> Bool[Tensor, "b t g"]:
        """Which tokens of a place are there; those of static groups of the first date that is there only."""
        if present is None:
            present = torch.ones((len(image), self.dates), dtype=torch.bool, device=image.device)
        first = present & (present.cumsum(1) == 1)
        return torch.stack([first if name in self.static else present for name in self.places], dim=2)

    def days_of(self, image: Float[Tensor, "b tc h w"], days: Int[Tensor, "b t"] | None) -> Int[Tensor, "b t"] | None:
        """Days of the dates; the numbers of the slots of a series without days, None of single images without one."""
        if days is None and self.dates > 1:
            return torch.arange(self.dates, device=image.device).expand(len(image), -1)
        return days

    def embed(self, image: Float[Tensor, "b tc h w"], days: Int[Tensor, "b t"] | None = None) -> Float[Tensor, "b m d"]:
        """Tokens of all places of the first group of the first date, then of the next group, then of the next date."""
        by_date = self.patches(image.unflatten(1, (self.dates, -1)).flatten(0, 1)).unflatten(0, (-1, self.dates))
        months = torch.full((1, self.dates), self.month, device=image.device) if days is None else month_of(days) - 1
        return (by_date + self.encoding(self.grid(image), months)).flatten(1, 3)

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
        days = self.days_of(image, days)
        tokens, places = self.embed(image, days), self.coordinates(self.grid(image), days)
        seen = self.visible(image, present)
        count = tokens.shape[1] // (self.dates * len(self.places))
        single = present is None and self.dates == 1
        mask = None if single else seen.flatten(1).repeat_interleave(count, dim=1)[:, None, None]
        features = []
        for depth, block in enumerate(self.net.blocks):
            tokens = block(tokens, places, mask)
            if depth in self.depths:
                by_date = self.net.norm(tokens).unflatten(1, (self.dates, len(self.places), count))
                features.append(self.mean_of_dates(by_date, seen))
        return features

    def mean_of_dates(self, tokens: Float[Tensor, "b t g n d"], seen: Bool[Tensor, "b t g"]) -> Float[Tensor, "b n d"]:
        """A feature: the mean over the tokens of a place that are there."""
        return masked_mean(tokens.flatten(1, 2), seen.flatten(1))


def masked_mean(tokens: Float[Tensor, "b k n d"], seen: Bool[Tensor, "b k"]) -> Float[Tensor, "b n d"]:
    """Mean over the tokens of each place that are there.

    Example:
        >>> tokens = torch.tensor([[[[1.0]], [[5.0]], [[9.0]]]])
        >>> masked_mean(tokens, torch.tensor([[True, False, True]])).tolist()
        [[[5.0]]]
    """
    weights = seen.to(tokens.dtype)[:, :, None, None]
    return (tokens * weights).sum(1) / weights.sum(1)
