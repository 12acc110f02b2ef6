"""Weights of time series and videos for single images: kernels and positions without their axis of time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from medseg.errors import InputError
from medseg.weights.positions import ABSOLUTE

_PREFIXES = (0, 1, 5)
"""Tokens that may stand ahead of the grid: none, a class token, or one and four registers."""


@dataclass(frozen=True)
class Still:
    """Tensors for single images.

    Attributes:
        state: Tensors by their names in the file.
        notes: How those that have changed came about, by name.
    """

    state: Mapping[str, Tensor]
    notes: Mapping[str, str]


def without_time(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    pairs: Mapping[str, str],
    stems: Collection[str],
    frames: int | None = None,
) -> Still:
    """The tensors of a file, those of clips made those of images.

    A kernel ``[o, c, t, k, k]`` becomes ``[o, c, k, k]``: its sum over time, which gives on a still scene the very
    response of the kernel of clips. Positions of ``frames`` grids, one after another, become their mean.

    Args:
        state: Tensors of the file.
        own: Tensors of the module, by name.
        pairs: Names of the module and their partners in the file.
        stems: Kernels of the module that take the image.
        frames: Frames of a clip; None to infer it: as many as make square grids, of the module's own size if possible.

    Raises:
        InputError: More than one number of frames is possible, or the given one does not divide the positions.
    """
    clips = [name for name in stems if name in pairs and _is_clip(state[pairs[name]], own[name])]
    if not clips:
        return Still(state, {})
    changed, notes = dict(state), {}
    for name in clips:
        kernel = state[pairs[name]]
        changed[pairs[name]] = kernel.sum(2)
        length = kernel.shape[2]
        notes[pairs[name]] = "axis of time of length 1 removed" if length == 1 else f"summed over {length} frames"
    for name, partner in pairs.items():
        if _are_positions(name, own[name], state[partner]):
            mean, count = _mean(partner, state[partner], own[name], frames)
            if count > 1:
                changed[partner], notes[partner] = mean, f"mean over {count} frames"
    return Still(changed, notes)


def _is_clip(kernel: Tensor, own: Tensor) -> bool:
    return own.ndim == 4 and kernel.ndim == 5 and own.shape[2:] == kernel.shape[3:]


def _are_positions(name: str, own: Tensor, values: Tensor) -> bool:
    """Whether both are absolute positions in rows, which may be those of several frames."""
    return bool(ABSOLUTE.search(name)) and own.ndim in (2, 3) and values.ndim in (2, 3)


def _mean(name: str, values: Tensor, own: Tensor, frames: int | None) -> tuple[Tensor, int]:
    """Positions of one frame, ``[1, n, d]`` with prefix tokens first, and how many frames there were."""
    n = values.shape[-2]
    splits = _splits(n, own.shape[-2], frames)
    if not splits:
        if frames is None:
            return values, 1
        raise InputError(f"model.encoder.frames={frames}: {name} has {n} positions, which are not so many square grids")
    prefix = min(prefix for prefix, _ in splits)
    counts = sorted({t for p, t in splits if p == prefix})
    if len(counts) > 1:
        raise InputError(
            f"{name} has {n} positions, which may be those of {' or '.join(map(str, counts))} frames; set "
            "model.encoder.frames to the number that the weights were trained with"
        )
    grid = values[..., prefix:, :].unflatten(-2, (counts[0], -1)).mean(-3)
    return torch.cat([values[..., :prefix, :], grid], dim=-2), counts[0]


def _splits(n: int, mine: int, frames: int | None) -> list[tuple[int, int]]:
    """Prefix tokens and frames that n positions may be made of: those that leave ``mine`` positions, else all."""
    splits = [(prefix, t) for prefix in _PREFIXES for t in _numbers(n - prefix, frames)]
    exact = [(prefix, t) for prefix, t in splits if (n - prefix) // t + prefix == mine]
    return exact or splits


def _numbers(n: int, frames: int | None) -> list[int]:
    """Numbers of frames for which n positions are square grids."""
    tried = range(1, 65) if frames is None else (frames,)
    return [t for t in tried if n > 0 and n % t == 0 and isqrt(n // t) ** 2 == n // t]
