"""The neck between encoder and decoder: derived from what one declares and the other asks for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log2
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import BadInput
from medseg.models.blocks import CONV, CONV_TRANSPOSED
from medseg.models.encoders.encoder import Feature

Asks = Literal["grids", "pyramid"]
"""``grids``: features on grids, of any strides. ``pyramid``: each coarser than the one before it."""
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Neck(nn.Module):
    """Features as a decoder asks for them.

    Tokens become grids (those without a place are left out). Where a pyramid is asked for and the encoder
    gives one, it is passed on. A plain transformer, whose features are all of one stride, becomes a simple
    feature pyramid: from early to late, 4 and 2 times finer by transposed convolutions, as it is, and 2
    times coarser by pooling (never finer than 2 cells of the image); further or fewer features likewise.

    Attributes:
        features: What ``forward`` gives; all grids.

    Args:
        features: What the encoder declares.
        asks: What the decoder asks for.

    Raises:
        BadInput: Strides that neither fall nor are all equal.

    References:
        Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, 2022 (which feeds every
        level from the last feature; here each level has its own, as in most segmentation heads).
    """

    def __init__(self, features: Sequence[Feature], asks: Asks) -> None:
        super().__init__()
        self.given = tuple(features)
        strides = [f.stride for f in features]
        plain = len(features) > 1 and len(set(strides)) == 1
        if asks == "pyramid" and not plain and not _falls(strides):
            raise BadInput(f"features of strides {strides} came, expected each coarser than the one before it")
        factors = [0] * len(features)
        if asks == "pyramid" and plain:
            finest = int(log2(max(min(strides[0]) // 2, 1)))
            factors = [min(len(features) - 2 - i, finest) for i in range(len(features))]
            if not all(a > b for a, b in pairwise(factors)):
                raise BadInput(
                    f"{len(features)} features of stride {strides[0]} can't become a pyramid; ask the encoder for fewer"
                )
        self.levels = nn.ModuleList(
            _level(f.channels, power, len(f.stride)) for f, power in zip(features, factors, strict=True)
        )
        self.features = tuple(
            Feature(f.channels, tuple(s // 2**p if p >= 0 else s * 2**-p for s in f.stride))
            for f, p in zip(features, factors, strict=True)
        )

    def forward(self, given: Sequence[Tensor], shape: Sequence[int]) -> list[Tensor]:
        """Grids ``[b, c, *s]`` from what the encoder gave for an image of ``shape``."""
        grids = [to_grid(t, f, shape) for t, f in zip(given, self.given, strict=True)]
        return [level(grid) for level, grid in zip(self.levels, grids, strict=True)]


def to_grid(given: Tensor, feature: Feature, shape: Sequence[int]) -> Float[Tensor, "b c *s"]:
    """A feature on its grid; tokens without a place are left out.

    Args:
        given: Tokens ``[b, n, c]``, or the grid already.
        feature: What is declared of it.
        shape: Of the image.

    Example:
        >>> tokens = torch.arange(7.0).reshape(1, 7, 1)
        >>> to_grid(tokens, Feature(1, (16, 16), tokens=True, prefix=1), (32, 48))[0, 0]
        tensor([[1., 2., 3.],
                [4., 5., 6.]])
    """
    if not feature.tokens:
        return given
    grid = [s // d for s, d in zip(shape, feature.stride, strict=True)]
    return given[:, feature.prefix :].transpose(1, 2).reshape(len(given), feature.channels, *grid)


def _falls(strides: Sequence[tuple[int, ...]]) -> bool:
    """Whether resolution falls strictly: no axis finer, one at least coarser."""
    return all(
        all(a <= b for a, b in zip(fine, coarse, strict=True)) and fine != coarse for fine, coarse in pairwise(strides)
    )


def _level(channels: int, power: int, ndim: int) -> nn.Module:
    """2^power times finer, or coarser where the power is negative."""
    if power < 0:
        return nn.Sequential(*(MAX_POOL[ndim](2) for _ in range(-power)))
    layers: list[nn.Module] = []
    for i in range(power):
        layers += [CONV_TRANSPOSED[ndim](channels, channels, 2, 2)]
        if i + 1 < power:
            layers += [nn.GroupNorm(1, channels), nn.GELU()]
    return nn.Sequential(*layers)


def project(in_channels: int, channels: int, ndim: int) -> nn.Module:
    """A convolution of kernel 1 to another width; nothing where it is that already."""
    return nn.Identity() if in_channels == channels else CONV[ndim](in_channels, channels, 1)
