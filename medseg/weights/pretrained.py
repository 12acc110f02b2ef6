"""Pretrained: tensors trained elsewhere, and what is known of the images that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from medseg.sample import Channel


@dataclass(frozen=True)
class Pretrained:
    """Tensors trained elsewhere.

    Attributes:
        state: Tensors by their names in the file.
        source: Where from, for messages: the file, the hub's name or the enum.
        channels: Of the images that they were trained on, in the order of the stem's input axis; empty if
            unknown.
        mean: Of each channel, subtracted from images in the unit of the weights; empty if unknown.
        std: Likewise, divided by.
        scale: Raw values of sensor or file for 1 in the unit of the weights, such as 255 for photographs or
            10,000 for reflectances of Sentinel-2; None if unknown.
    """

    state: Mapping[str, Tensor]
    source: str
    channels: tuple[Channel, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None

    def with_state(self, state: Mapping[str, Tensor]) -> Pretrained:
        """The same of other tensors."""
        return replace(self, state=dict(state))


def read(path: str) -> Pretrained:
    """The tensors of a file."""
    import torch

    return Pretrained(torch.load(path, weights_only=True, map_location="cpu"), path)
