"""One tensor of a file, in the shape in which the module needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

from medseg.sample import Channel
from medseg.weights import channels, inflate, positions


@dataclass(frozen=True)
class Inputs:
    """Channels that one of several stems takes, where they differ from stem to stem.

    Attributes:
        trained: Of the weights, in the order of the kernel.
        wanted: Of the data, in the order of the module's.
    """

    trained: tuple[Channel, ...]
    wanted: tuple[Channel, ...]


@dataclass(frozen=True)
class Rules:
    """What decides how tensors are fitted.

    Attributes:
        stems: Names of the kernels that take the image.
        trained: Channels of the weights, in the order of those kernels.
        wanted: Channels of the data.
        strategy: See ``channels.adapt``.
        grids: What the encoder says of its positions.
        axes: Spatial axes of the images of the weights, and of the module's.
        inflate: See ``inflate.inflate``.
        stem_layout: Of a linear stem, which takes flattened patches: whether their channels come first, each
            with all its cells, or last.
        inputs: Channels by stem, where stems take different ones; empty where ``trained`` and ``wanted`` hold for all.
        generator: For random kernels.
    """

    stems: frozenset[str]
    trained: tuple[Channel, ...]
    wanted: tuple[Channel, ...]
    strategy: str = "auto"
    grids: positions.Grids = field(default_factory=positions.Grids)
    axes: tuple[int, int] = (2, 2)
    inflate: inflate.How = "centre"
    stem_layout: Literal["first", "last"] = "first"
    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    generator: torch.Generator | None = None

    def of(self, stem: str) -> Rules:
        """The rules with the channels of one stem."""
        own = self.inputs.get(stem)
        return self if own is None else replace(self, trained=own.trained, wanted=own.wanted, inputs={})


@dataclass(frozen=True)
class Fitted:
    """A tensor in the module's shape.

    Attributes:
        tensor: Its values.
        note: How it was adapted; empty if it was copied.
        origins: Of a stem: where each wanted channel is from.
    """

    tensor: Tensor
    note: str = ""
    origins: tuple[str, ...] = ()


def plausible(name: str, own: Sequence[int], file: Sequence[int], stems: frozenset[str]) -> bool:
    """Whether shapes alone let a tensor of the file become the module's; ``fit`` has the last word."""
    if tuple(own) == tuple(file) or _bare(own) == _bare(file):
        return True
    if name in stems:
        return own[0] == file[0]
    if positions.ABSOLUTE.search(name):
        return own[-1] == file[-1] or (len(own) > 3 and len(file) > 3 and own[1] == file[1])
    if positions.TABLE.search(name) or positions.ALONG_AXIS.search(name):
        return own[-1] == file[-1]
    return _inflatable(own, file)


def fit(name: str, own: Tensor, tensor: Tensor, rules: Rules) -> Fitted | None:
    """The file's tensor as the module needs it; None if its shape cannot be brought there.

    Raises:
        InputError: See ``channels.adapt``.
    """
    if name in rules.stems:
        return _fit_stem(own, tensor, rules.of(name))
    moved = _replaced(name, own, tensor, rules)
    if moved is not None:
        return Fitted(*moved)
    if own.shape == tensor.shape:
        return Fitted(tensor)
    if _bare(own.shape) == _bare(tensor.shape):
        return Fitted(tensor.reshape(own.shape), f"{shape_of(tensor)} -> {shape_of(own)}, the same numbers")
    if _inflatable(own.shape, tensor.shape):
        return Fitted(*_thicken(tensor, own.shape[2:], rules))
    return None


def _replaced(name: str, own: Tensor, tensor: Tensor, rules: Rules) -> tuple[Tensor, str] | None:
    """Positions on the module's grid, and how; None if they are no positions, or on it already."""
    if positions.ABSOLUTE.search(name):
        return positions.absolute(tensor, own, rules.grids, rules.axes)
    if positions.TABLE.search(name):
        return positions.table(tensor, own, rules.grids, rules.axes)
    if positions.ALONG_AXIS.search(name):
        return positions.along_axis(tensor, own)
    return None


def shape_of(tensor: Tensor) -> str:
    """Its shape as it is written, ``[768, 3, 16, 16]``."""
    return str(list(tensor.shape))


def _bare(shape: Sequence[int]) -> list[int]:
    return [s for s in shape if s != 1]


def _inflatable(own: Sequence[int], file: Sequence[int]) -> bool:
    if len(own) != 5 or len(file) != 4 or tuple(own[:2]) != tuple(file[:2]):
        return False
    return inflate.new_axis(file[2:], own[2:]) is not None


def _thicken(kernel: Tensor, shape: Sequence[int], rules: Rules) -> tuple[Tensor, str]:
    axis = inflate.new_axis(kernel.shape[2:], shape, axis=rules.grids.new_axis)
    if axis is None:
        raise ValueError(f"a kernel of {tuple(kernel.shape)} for {tuple(shape)}")
    words = "centred in" if rules.inflate == "centre" else "spread over"
    thick = inflate.inflate(kernel, shape[axis], how=rules.inflate, axis=axis)
    return thick, f"2D kernel {words} {shape[axis]} cells of axis {axis}"


def _fit_stem(own: Tensor, tensor: Tensor, rules: Rules) -> Fitted | None:
    """A kernel ``[o, c, *k]``, or linear on flattened patches ``[o, c * k]``, for the wanted channels."""
    if len(own) != len(tensor) or own.ndim < 2 or tensor.ndim < 2:
        return None
    placed = _as_kernel(own, tensor, rules)
    if placed is None:
        return None
    kernel, note = placed
    if kernel.shape[1] != len(rules.trained):
        return None
    mixed, origins = channels.adapt(kernel, rules.trained, rules.wanted, rules.strategy, generator=rules.generator)
    copied = [f"copied from {c.name}" for c in rules.trained] == list(origins)
    notes = [note, "" if copied else f"{len(rules.trained)} channels -> {len(rules.wanted)}"]
    if own.ndim == 2 and rules.stem_layout == "last":
        mixed = mixed.transpose(1, 2)
    return Fitted(mixed.reshape(own.shape), ", ".join(filter(None, notes)), origins)


def _as_kernel(own: Tensor, tensor: Tensor, rules: Rules) -> tuple[Tensor, str] | None:
    """The file's stem as ``[o, t, *k]`` with the cells of the module's, and how; None if its cells are others."""
    cells = tuple(own.shape[2:]) if own.ndim > 2 else (own.shape[1] // len(rules.wanted),)
    if 2 in (tensor.ndim, own.ndim):
        return _unflattened(own, tensor, cells, rules)
    if tensor.ndim == 4 and own.ndim == 5:
        return None if inflate.new_axis(tensor.shape[2:], cells) is None else _thicken(tensor, cells, rules)
    return (tensor, "") if tuple(tensor.shape[2:]) == cells else None


def _unflattened(own: Tensor, tensor: Tensor, cells: Sequence[int], rules: Rules) -> tuple[Tensor, str] | None:
    """As ``_as_kernel``, where the file or the module has a linear stem."""
    n, t = len(own), len(rules.trained)
    if tensor.numel() != n * t * prod(cells):
        return None
    last = tensor.ndim == 2 and rules.stem_layout == "last"
    kernel = tensor.reshape(n, prod(cells), t).transpose(1, 2) if last else tensor
    note = "" if tensor.ndim == own.ndim else f"{shape_of(tensor)} -> {shape_of(own)}"
    return kernel.reshape(n, t, *cells), note
