"""What a backbone gives: features with strides, found on the meta device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from medseg.errors import InputError
from medseg.models.encoders.encoder import Feature
from medseg.models.encoders.vit import choose

SIDE = 224
"""Cells of a side of the image that is tried first: what most backbones are built for."""
_MOST_PREFIX = 8
_REFUSALS = (ValueError, TypeError, RuntimeError, AssertionError, IndexError, AttributeError, NotImplementedError)
"""What backbones raise for shapes that do not fit."""


@dataclass(frozen=True)
class Taken:
    """A feature that is taken from a backbone.

    Attributes:
        index: Its place among what the backbone gives.
        feature: As the encoder declares it.
        last: Whether it comes as ``[b, *s, c]``.
    """

    index: int
    feature: Feature
    last: bool = False

    def __call__(self, outputs: Sequence[Tensor]) -> Tensor:
        """The feature as declared."""
        found = outputs[self.index]
        return found.movedim(-1, 1) if self.last else found


def features_of(net: nn.Module, image: Tensor) -> list[Tensor]:
    """What a backbone gives, as a list."""
    return _listed(net(image))


def _listed(outputs: Any) -> list[Tensor]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def probe(
    name: str, net: nn.Module, channels: int, indices: Sequence[int] | None, side: int = SIDE
) -> tuple[tuple[Taken, ...], tuple[int, int] | None]:
    """The features of a backbone, fine to coarse, and the only shape that it takes; None where shapes are free.

    Args:
        name: Of the backbone, for messages.
        net: The backbone.
        channels: Of the image.
        indices: Which of what it gives; None for four evenly spaced where all are of one stride, else for all.
        side: Cells of a side of an image that it takes.

    Raises:
        InputError: It needs values, fails, or gives something else than features on a grid.
    """
    try:
        outputs = _outputs(net, (1, channels, side, side))
    except _REFUSALS as error:
        raise InputError(
            f"model.encoder.name={name} gives no features for an image of {side} x {side} without values "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); choose an encoder of medseg's own"
        ) from error
    widths = list(getattr(net, "out_channels", []))
    all_taken = [_taken(name, i, tensor, widths, side) for i, tensor in enumerate(outputs)]
    strides = {taken.feature.stride for taken in all_taken}
    several = indices is None and len(strides) > 1
    chosen = tuple(range(len(all_taken))) if several else choose(len(all_taken), indices)
    taken = tuple(sorted((all_taken[i] for i in chosen), key=lambda t: max(t.feature.stride)))
    return taken, None if _is_free(net, channels, taken) else (side, side)


def _outputs(net: nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    """What it gives for an image of a shape, without values."""
    tensors = [*net.named_parameters(), *net.named_buffers()]
    meta = {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors}
    net.eval()
    with torch.no_grad():
        return _listed(functional_call(net, meta, (torch.empty(shape, device="meta"),)))


def _taken(name: str, index: int, tensor: object, widths: Sequence[int], side: int) -> Taken:
    """How one of the outputs is a feature.

    Raises:
        InputError: It is none.
    """
    given: object = type(tensor).__name__
    if isinstance(tensor, Tensor):
        given = list(tensor.shape)
        width = widths[index] if index < len(widths) else None
        found = _of_grid(index, given, width, side) if len(given) == 4 else None
        found = _of_tokens(index, given, side) if len(given) == 3 else found
        if found is not None:
            return found
    raise InputError(
        f"model.encoder.name={name}: output {index} is {given} for an image of {side} x {side}, expected a grid or "
        "tokens of one; choose another backbone"
    )


def _of_grid(index: int, shape: Sequence[int], width: int | None, side: int) -> Taken | None:
    """A feature ``[b, c, *s]``, or ``[b, *s, c]`` where only that fits its width; None off whole strides."""
    last = shape[-1] == width != shape[1]
    grid, channels = (shape[1:3], shape[3]) if last else (shape[2:], shape[1])
    if any(side % n for n in grid):
        return None
    return Taken(index, Feature(channels, tuple(side // n for n in grid)), last)


def _of_tokens(index: int, shape: Sequence[int], side: int) -> Taken | None:
    """A feature ``[b, n, c]`` of a square grid after few prefix tokens; None if there is no such grid."""
    for prefix in range(min(_MOST_PREFIX, shape[1] - 1) + 1):
        root = isqrt(shape[1] - prefix)
        if root**2 == shape[1] - prefix and side % root == 0:
            return Taken(index, Feature(shape[2], (side // root,) * 2, tokens=True, prefix=prefix))
    return None


def _is_free(net: nn.Module, channels: int, taken: Sequence[Taken]) -> bool:
    """Whether images of other shapes give features of the same strides."""
    unit = max(max(int(s) for s in t.feature.stride) for t in taken)
    shape = (2 * unit, 3 * unit)
    try:
        outputs = _outputs(net, (1, channels, *shape))
    except _REFUSALS:
        return False
    for t in taken:
        given, f = t(outputs), t.feature
        grid = [int(n // s) for n, s in zip(shape, f.stride, strict=True)]
        expected = (1, f.prefix + grid[0] * grid[1], f.channels) if f.tokens else (1, f.channels, *grid)
        if tuple(given.shape) != expected:
            return False
    return True
