"""ClassIndicators: what a network sees of an image whose last channel holds class numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ClassIndicators:
    """Replaces the class numbers of the last channel by an indicator of each class; a hook before ``forward``.

    As a hook it is no part of the weights' names, so that encoders, adapters and averages find the network as it is,
    while images stay small: one channel for any number of classes.

    Attributes:
        channels: Number of channels of an image, the class numbers among them.
        count: Number of classes, n; the last channel holds 0 to n.
    """

    channels: int
    count: int

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of ``forward``; an image that has the indicators already is left as it is."""
        del module
        image, *rest = given
        return (self.shown(image), *rest) if image.shape[1] == self.channels else given

    def shown(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b d *s"]:
        """The image as the network sees it."""
        classes = torch.arange(1, self.count + 1, device=image.device).view(-1, *[1] * (image.ndim - 2))
        return torch.cat([image[:, :-1], (image[:, -1:] == classes).to(image.dtype)], dim=1)
