"""Stack: the channels of all dates, one after another, as those of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.models.network import ModelSpec
from medseg.models.temporal.network import Make, SeriesNetwork, hidden
from medseg.weights.report import Report


class Stack(SeriesNetwork):
    """The network sees t times c channels, date after date; those of missing dates are 0.

    The cheapest way, and a strong one where the n-th date means the same in every case (before and after an
    event, the same months). The network does not get the days themselves.

    Args:
        spec: Spec of one date.
        make: Builds the network for images.
        dates: Slots, t.
    """

    runs_on_each_date: ClassVar[bool] = False

    def __init__(self, spec: ModelSpec, make: Make, *, dates: int) -> None:
        stacked = replace(spec, in_channels=spec.in_channels * dates, channels=spec.channels * dates)
        super().__init__(make(stacked), spec.in_channels, dates)

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Weights of the inner network; the statistics of a channel are those of each of its dates."""
        stacked = statistics and {name: list(values) * self.dates for name, values in statistics.items()}
        return self.inner.initialise(stacked)

    def forward(
        self,
        image: Float[Tensor, "b t c *s"],
        present: Bool[Tensor, "b t c"] | None = None,
        days: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits of each cell."""
        self.check_series(image, slots=True)
        visible = image if present is None else hidden(image, present)
        return self.inner(visible.flatten(1, 2))
