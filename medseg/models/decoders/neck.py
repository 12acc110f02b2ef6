"""The neck between encoder and decoder, derived from the features of one and the layout that the other takes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import floor, log2
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.encoders.encoder import Feature, Stride
from medseg.models.layers import CONV_TRANSPOSED, CellNorm

FeatureLayout = Literal["grids", "pyramid"]
"""``grids``: features on grids, of any strides. ``pyramid``: each coarser than the previous one."""
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_FINEST = 2
"""Smallest stride of a level, in cells of the image."""
_COARSER = 2
"""Most times that a level may be halved: 4 times coarser than a token."""


class Neck(nn.Module):
    """Features in the layout that a decoder takes.

    Tokens become grids (those without a place are left out). A pyramid of the encoder is passed on. A plain
    transformer, whose features are all of one stride, becomes a simple feature pyramid: from early to late, 4 and
    2 times finer by transposed convolutions, as it is, and 2 times coarser by pooling; more or fewer features
    follow the same rule. No level is finer than 2 cells of the image, so that small tokens begin less fine and end
    coarser. Axes of stride 1 stay so.

    Strides stay true where 2 does not divide them: tokens of 14 cells give levels of 3.5, 7, 14 and 28. The
    levels still are 2 times apart, as in DPT on DINOv2, and the last step to the image is an interpolation;
    nothing is resampled to strides of 4 and 8, which would ask for images of a multiple of 224. A grid of odd
    length is pooled with a last cell of its own: 37 tokens give 19 cells.

    Attributes:
        features: Features of the output of ``forward``; all grids.

    Args:
        features: Features that the encoder declares.
        layout: Layout that the decoder takes.

    Raises:
        InputError: Strides that neither fall nor are all equal; too many of one stride.

    References:
        Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, 2022 (which feeds every
        level from the last feature; here each level has its own, as in most segmentation heads). Ranftl et
        al., Vision Transformers for Dense Prediction, 2021 (depths to levels).
    """

    def __init__(self, features: Sequence[Feature], layout: FeatureLayout) -> None:
        super().__init__()
        self.inputs = tuple(features)
        strides = [f.stride for f in features]
        targets = _pyramid(strides) if layout == "pyramid" else strides
        self.levels = nn.ModuleList(
            _level(f.channels, f.stride, target) for f, target in zip(features, targets, strict=True)
        )
        self.features = tuple(Feature(f.channels, target) for f, target in zip(features, targets, strict=True))

    def forward(self, features: Sequence[Tensor], shape: Sequence[int]) -> list[Tensor]:
        """Grids ``[b, c, *s]`` from the encoder's features of an image of ``shape``."""
        grids = [to_grid(t, f, shape) for t, f in zip(features, self.inputs, strict=True)]
        return [level(grid) for level, grid in zip(self.levels, grids, strict=True)]


def to_grid(values: Tensor, feature: Feature, shape: Sequence[int]) -> Float[Tensor, "b c *s"]:
    """A feature on its grid; tokens without a place are left out.

    Args:
        values: Tokens ``[b, n, c]``, or the grid already.
        feature: Declaration of the feature.
        shape: Shape of the image.

    Example:
        >>> import torch
        >>> tokens = torch.arange(7.0).reshape(1, 7, 1)
        >>> to_grid(tokens, Feature(1, (16, 16), tokens=True, prefix=1), (32, 48))[0, 0]
        tensor([[1., 2., 3.],
                [4., 5., 6.]])
    """
    if not feature.tokens:
        return values
    grid = [int(s // d) for s, d in zip(shape, feature.stride, strict=True)]
    return values[:, feature.prefix :].transpose(1, 2).reshape(len(values), feature.channels, *grid)


def _pyramid(strides: Sequence[tuple[Stride, ...]]) -> list[tuple[Stride, ...]]:
    """Strides of a pyramid: those of the features, or powers of two around the stride that all of them share.

    Raises:
        InputError: Strides that neither fall nor are all equal; too many of one stride.
    """
    if len(strides) > 1 and len(set(strides)) == 1:
        return [_refine(strides[0], power) for power in _powers(strides[0], len(strides))]
    if not _falls(strides):
        raise InputError(
            f"got features of strides {[_text(s) for s in strides]}, expected each coarser than the one before "
            f"it, or all alike; choose others, as with model.encoder.indices"
        )
    return list(strides)


def _falls(strides: Sequence[tuple[Stride, ...]]) -> bool:
    """Whether resolution falls strictly: no axis finer, one at least coarser."""
    return all(
        all(a <= b for a, b in zip(fine, coarse, strict=True)) and fine != coarse for fine, coarse in pairwise(strides)
    )


def _powers(stride: tuple[Stride, ...], n: int) -> list[int]:
    """Exponents of 2 by which each of ``n`` features of one stride becomes finer; falling by one.

    Raises:
        InputError: Levels would be too coarse.

    Example:
        >>> _powers((16, 16), 4), _powers((4, 4), 4)
        ([2, 1, 0, -1], [1, 0, -1, -2])
    """
    finest = max(floor(log2(max(stride) / _FINEST)), 0)
    first = min(max(n - 2, 0), finest)
    if first - (n - 1) < -_COARSER:
        raise InputError(
            f"{n} features of stride {_text(stride)} can't become a pyramid; ask the encoder for "
            f"{finest + _COARSER + 1} or fewer, as with model.encoder.indices"
        )
    return [first - i for i in range(n)]


def _refine(stride: tuple[Stride, ...], power: int) -> tuple[Stride, ...]:
    """Strides 2^power times finer, but not below 2, and 1 as it is.

    Example:
        >>> _refine((14, 4, 1), 2), _refine((16, 1), -1)
        ((Fraction(7, 2), 2, 1), (32, 1))
    """
    refined: list[Stride] = []
    for s in stride:
        least = min(power, floor(log2(max(s / _FINEST, 1))))
        exact = Fraction(s) / Fraction(2) ** (least if s > 1 else 0)
        refined.append(exact.numerator if exact.denominator == 1 else exact)
    return tuple(refined)


def _level(channels: int, source: tuple[Stride, ...], target: tuple[Stride, ...]) -> nn.Module:
    """Layers from a grid of one stride to another, by steps of 2 on the axes that differ."""
    ndim, stride = len(source), source
    layers: list[nn.Module] = []
    while stride != target:
        finer = any(t < s for s, t in zip(stride, target, strict=True))
        step = tuple(1 if s == t else 2 for s, t in zip(stride, target, strict=True))
        if not finer:
            layers.append(MAX_POOL[ndim](step, ceil_mode=True))
        else:
            layers += [CellNorm(channels), nn.GELU()] if layers else []
            layers.append(CONV_TRANSPOSED[ndim](channels, channels, step, step))
        stride = tuple(
            s if s == t else (Fraction(s) / 2 if t < s else s * 2) for s, t in zip(stride, target, strict=True)
        )
    return nn.Sequential(*layers)


def _text(stride: tuple[Stride, ...]) -> str:
    """A stride in a message, such as ``3.5 x 3.5``."""
    return " x ".join(f"{float(s):g}" for s in stride)
