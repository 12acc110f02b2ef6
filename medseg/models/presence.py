"""PresenceIndicators: what a network sees of an image that may lack channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class PresenceIndicators:
    """Adds a plane for each channel, 1 where it is present in an image, else 0; a hook before ``forward``.

    A channel is taken for present if some of its cells is not 0, so that training, prediction and exported networks
    need nothing else. As a hook it is no part of the weights' names, see ``ClassIndicators``.

    Attributes:
        count: Number of channels that get a plane, the first ones of an image.
        channels: Number of channels of an image.
    """

    count: int
    channels: int

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of ``forward``; an image that has the planes already is left as it is."""
        del module
        image, *rest = given
        return (self.shown(image), *rest) if image.shape[1] == self.channels else given

    def shown(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b d *s"]:
        """The image as the network sees it."""
        own = image[:, : self.count]
        there = (own != 0).flatten(2).any(2).to(image.dtype)
        return torch.cat([image, there.view(*there.shape, *[1] * (image.ndim - 2)).expand_as(own)], dim=1)
