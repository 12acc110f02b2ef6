"""What decoders share, in two and three dimensions: resizing, normalisation, checks of settings."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.models.layers import CONV, normalisation

LINEAR = {2: "bilinear", 3: "trilinear"}
NORMS = ("batch", "group")
INSTEAD = " or model.decoder.norm=group"
"""Hint for a batch of one, for decoders with a setting ``norm``."""


def resize(
    grid: Float[Tensor, "b c *s"], shape: Sequence[int], *, align_corners: bool = False
) -> Float[Tensor, "b c *t"]:
    """Linear interpolation to ``shape``; a grid of that shape is returned as it is.

    Args:
        grid: Features or logits.
        shape: Wanted.
        align_corners: Whether the centres of the outermost cells keep their place, instead of the extent.
    """
    if tuple(grid.shape[2:]) == tuple(shape):
        return grid
    return functional.interpolate(grid, tuple(shape), mode=LINEAR[grid.ndim - 2], align_corners=align_corners)


def norm_layer(norm: str, channels: int, ndim: int) -> nn.Module:
    """Normalisation over the batch, or within each image over groups of channels, as ``norm`` says.

    Raises:
        InputError: Another name.
    """
    one_of("norm", norm, NORMS)
    return normalisation(norm, channels, ndim)


def conv_norm_relu(in_channels: int, channels: int, kernel: int, ndim: int, norm: str) -> nn.Sequential:
    """Convolution of an odd kernel without bias, normalisation, ReLU; same size."""
    conv = CONV[ndim](in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, norm_layer(norm, channels, ndim), nn.ReLU(inplace=True))


def positive(**settings: int) -> None:
    """Refuse settings of the decoder below 1.

    Raises:
        InputError: Names the first of them.
    """
    for key, value in settings.items():
        if value < 1:
            raise InputError(f"model.decoder.{key}={value}: expected 1 or more")


def fraction(**settings: float) -> None:
    """Refuse settings of the decoder outside [0, 1), such as a share of values to drop.

    Raises:
        InputError: Names the first of them.
    """
    for key, value in settings.items():
        if not 0 <= value < 1:
            raise InputError(f"model.decoder.{key}={value}: expected 0 or more and less than 1")


def one_of(key: str, value: str, options: Sequence[str]) -> None:
    """Refuse a setting of the decoder that is none of ``options``.

    Raises:
        InputError: Names them.
    """
    if value not in options:
        raise InputError(f"model.decoder.{key}={value}: expected {', '.join(options[:-1])} or {options[-1]}")
