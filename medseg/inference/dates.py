"""Time series as planes: windows and blending know nothing of time."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.sample import Sample


class AtDates(nn.Module):
    """A network for time series as one for images, whose channels are the dates of one case, one after another.

    Args:
        network: Takes ``(image [b, t, c, *w], present=, days=)``.
        present: Of the case.
        days: Of the case.
    """

    def __init__(self, network: nn.Module, present: Bool[Tensor, "t c"], days: Int[Tensor, " t"]) -> None:
        super().__init__()
        self.network, self.present, self.days = network, present, days

    def forward(self, planes: Float[Tensor, "b n *w"]) -> Float[Tensor, "b k *w"]:
        """Logits of each cell."""
        image = planes.unflatten(1, self.present.shape)
        present, days = (fact.to(planes.device).expand(len(planes), *fact.shape) for fact in (self.present, self.days))
        return self.network(image, present=present, days=days)


def at_dates(network: nn.Module, sample: Sample) -> nn.Module:
    """The network for the planes of this case (``Sample.planes``) or of any window of it; itself without time."""
    if sample.present is None or sample.days is None:
        return network
    return AtDates(network, torch.from_numpy(sample.present), torch.from_numpy(sample.days))
