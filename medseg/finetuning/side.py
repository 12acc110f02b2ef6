"""Side-tuning: a small network parallel to a frozen encoder, which reads its features and adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.finetuning.strategy import Tuning, need_encoder
from medseg.models.layers import CONV, CellNorm

LINEAR = {2: "bilinear", 3: "trilinear"}


class SideTuning(Tuning):
    """A hierarchical side network: no gradient passes through the encoder, which makes training cheap.

    The side network sees the image at the stride of the finest feature. At every feature, from first to last, it
    adds a projection of the frozen one to its own, and convolves; what it has then is projected back and added to
    the frozen feature. The projections back start at zero, so that nothing changes at first. Token features are
    added to in their places; tokens without one stay.

    Args:
        width: Channels of the side network.
        pace: Settings of every ``Tuning``.

    References:
        Zhang et al., Side-Tuning, 2020; Lin et al., Hierarchical Side-Tuning for Vision Transformers, 2023.
    """

    keeps = True

    def __init__(self, *, width: int = 48, **pace: float) -> None:
        super().__init__(**pace)
        if width < 1:
            raise InputError(f"finetuning.width={width}: expected 1 or more")
        self.width = width

    def change(self, network: nn.Module) -> None:
        """Add the side network to the encoder."""
        encoder = need_encoder(network, "side_tuning")
        encoder.side = Side(len(encoder.channels), encoder.features, self.width)
        encoder.register_forward_hook(_add_side)


def _add_side(encoder: Any, inputs: tuple[Tensor, ...], features: list[Tensor]) -> list[Tensor]:
    return encoder.side(inputs[0], [feature.detach() for feature in features])


class Side(nn.Module):
    """The side network.

    Args:
        channels: Number of image channels.
        features: Features that the encoder declares.
        width: Channels throughout.
    """

    def __init__(self, channels: int, features: Sequence[Any], width: int) -> None:
        super().__init__()
        self.features = tuple(features)
        ndim = len(features[0].stride)
        conv = CONV[ndim]
        self.enter = nn.Sequential(conv(channels, width, 3, padding=1), nn.GELU())
        self.read = nn.ModuleList(conv(f.channels, width, 1) for f in features)
        self.mix = nn.ModuleList(
            nn.Sequential(CellNorm(width), nn.GELU(), conv(width, width, 3, padding=1)) for _ in features
        )
        self.back = nn.ModuleList(conv(width, f.channels, 1) for f in features)
        for layer in self.back:
            nn.init.zeros_(layer.get_parameter("weight"))
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, image: Float[Tensor, "b c *s"], frozen: Sequence[Tensor]) -> list[Tensor]:
        """The frozen features, each with what the side network adds."""
        shapes = [[int(s // d) for s, d in zip(image.shape[2:], f.stride, strict=True)] for f in self.features]
        mode = LINEAR[image.ndim - 2]
        own = self.enter(functional.interpolate(image, shapes[0], mode=mode, align_corners=False))
        outputs = []
        for i, (feature, output) in enumerate(zip(self.features, frozen, strict=True)):
            if list(own.shape[2:]) != shapes[i]:
                own = functional.interpolate(own, shapes[i], mode=mode, align_corners=False)
            grid = output
            if feature.tokens:
                grid = output[:, feature.prefix :].transpose(1, 2).reshape(len(output), feature.channels, *shapes[i])
            own = own + self.mix[i](own + self.read[i](grid))
            added = self.back[i](own)
            if feature.tokens:
                tokens = torch.cat(
                    [output[:, : feature.prefix], output[:, feature.prefix :] + added.flatten(2).mT], dim=1
                )
                outputs.append(tokens)
            else:
                outputs.append(output + added)
        return outputs
