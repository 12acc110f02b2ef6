"""Features of an encoder as maps, for terms with heads on them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.losses.term import FeatureShape


def as_maps(
    features: Sequence[Tensor], declared: Sequence[FeatureShape], shape: Sequence[int]
) -> list[Float[Tensor, "b _ *g"]]:
    """Each feature as ``[b, c, *g]`` in float32; tokens without a place are left out.

    Args:
        features: Of one image, as the encoder returns them.
        declared: Their shapes.
        shape: Cells of the image on each axis.
    """
    return [
        _map(feature, one, shape).float() if one.tokens else feature.float()
        for feature, one in zip(features, declared, strict=True)
    ]


def _map(tokens: Float[Tensor, "b n c"], declared: FeatureShape, shape: Sequence[int]) -> Float[Tensor, "b c *g"]:
    grid = [int(s / stride) for s, stride in zip(shape, declared.stride, strict=True)]
    if tokens.shape[1] != declared.prefix + prod(grid):
        raise ValueError(f"got {tokens.shape[1]} tokens, expected {declared.prefix} and a grid of {grid}")
    return tokens[:, declared.prefix :].movedim(1, -1).unflatten(-1, grid)


def to_shape(maps: Float[Tensor, "b c *g"], shape: Sequence[int]) -> Float[Tensor, "b c *s"]:
    """Maps interpolated linearly to the cells of an image over the same extent."""
    if tuple(maps.shape[2:]) == tuple(shape):
        return maps
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    return torch.nn.functional.interpolate(maps, size=tuple(shape), mode=mode, align_corners=False)
