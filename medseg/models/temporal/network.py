"""SeriesNetwork: what every network for time series promises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.models.network import ModelSpec, Network
from medseg.weights.report import Report

Make = Callable[[ModelSpec], Network]
"""Builds a network for single images."""


class SeriesNetwork(Network):
    """Maps a time series to logits, by means of a network for images.

    Subclasses take ``(spec: ModelSpec, make: Make, *, dates: int, settings)`` with spec of one date and the number
    of slots; their yaml stands in ``conf/series`` with ``_partial_: true``. Whatever stands in slots that are
    missing, logits are the same.

    Attributes:
        runs_on_each_date: Whether the inner network runs on every date, which memory has to be planned for.
        dates: Slots, t.
        inner: The network for images.

    Args:
        inner: See above.
        in_channels: Channels of one date, c.
        dates: See above.

    Raises:
        InputError: An inner network with a margin.
    """

    runs_on_each_date: ClassVar[bool] = True

    def __init__(self, inner: Network, in_channels: int, dates: int) -> None:
        super().__init__(in_channels, inner.divisor, min_cells=inner.min_cells, fixed_shape=inner.fixed_shape)
        if any(inner.margin):
            raise InputError(
                "model.encoder.context: branches that see more than the first one are for single dates, the data are "
                "time series; leave it out"
            )
        self.dates = dates
        self.inner = inner

    @abstractmethod
    def forward(
        self,
        image: Float[Tensor, "b t c *s"],
        present: Bool[Tensor, "b t c"] | None = None,
        days: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits of each cell, as the inner network gives them.

        Args:
            image: Every date in a slot.
            present: False for channels that are missing; None if none is.
            days: Date of each slot in days since 1970-01-01; None numbers the slots.

        Raises:
            InputError: Another number of channels, axes or (where that matters) slots than the network was built for.
        """

    def nearest(self, shape: Sequence[int]) -> tuple[int, ...]:
        """As of the inner network."""
        return self.inner.nearest(shape)

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Weights of the inner network, if it asks for some."""
        return self.inner.initialise(statistics)

    def check_series(self, image: Tensor, *, slots: bool) -> None:
        """Refuse what is no series of the trained channels, or with ``slots`` of another number of dates.

        Raises:
            InputError: See above.
        """
        axes, name = 3 + len(self.divisor), type(self).__name__
        if image.ndim != axes or image.shape[2] != self.in_channels:
            raise InputError(
                f"{name}: got an image of shape {tuple(image.shape)}, expected {axes} axes (batch, dates, channels, "
                f"space) with {self.in_channels} channels; give it the channels it was trained on"
            )
        if slots and image.shape[1] != self.dates:
            raise InputError(
                f"{name}: got {image.shape[1]} dates, the network was built for {self.dates}; fill up missing ones "
                "with 0 and say so, or train with temporal=attention, mean or max"
            )


def hidden(image: Float[Tensor, "n *c_s"], present: Bool[Tensor, "n *c"]) -> Float[Tensor, "n *c_s"]:
    """The image with 0 in channels that are missing, whatever stands there."""
    return image.masked_fill(~present.view(*present.shape, *[1] * (image.ndim - present.ndim)), 0)


def numbered(image: Tensor) -> Int[Tensor, "b t"]:
    """Slot numbers instead of days."""
    return torch.arange(image.shape[1], device=image.device).expand(image.shape[:2])
