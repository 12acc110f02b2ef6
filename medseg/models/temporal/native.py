"""Native: an encoder that was trained on time series sees all dates with their days."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.models.encoder_decoder import EncoderDecoder
from medseg.models.network import ModelSpec
from medseg.models.temporal.network import Make, SeriesNetwork, hidden


class Native(SeriesNetwork):
    """``model=encoder_decoder`` with an encoder that takes the dates as they are, such as ``model/encoder=prithvi``.

    The encoder gets the channels of date after date, which dates are there, and their days; how it brings them
    together is its own affair. Missing dates are left out by it. Its features are of all dates, and the decoder sees
    the channels of all dates as those of one image where it has skips at full resolution.

    Args:
        spec: Spec of one date.
        make: Builds the network.
        dates: Slots, t.

    Raises:
        InputError: Another network, or an encoder of single images.
    """

    runs_on_each_date: ClassVar[bool] = True

    def __init__(self, spec: ModelSpec, make: Make, *, dates: int) -> None:
        inner = make(
            replace(spec, in_channels=spec.in_channels * dates, channels=spec.channels * dates, dates=dates),
        )
        seeing = inner.encoder if isinstance(inner, EncoderDecoder) else inner
        if not getattr(seeing, "takes_dates", False):
            name = type(seeing).__name__
            raise InputError(
                f"temporal=native: {name} takes single images; choose temporal=stack, mean, max, concat or attention, "
                "or model=encoder_decoder with an encoder of time series, such as model/encoder=prithvi"
            )
        super().__init__(inner, spec.in_channels, dates)

    def forward(
        self,
        image: Float[Tensor, "b t c *s"],
        present: Bool[Tensor, "b t c"] | None = None,
        days: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits of each cell."""
        self.check_series(image, slots=True)
        inner: Any = self.inner
        dates = (image if present is None else hidden(image, present)).flatten(1, 2)
        there = None if present is None else present.any(2)
        return inner.decode(inner.encode(dates, present=there, days=days), dates)
