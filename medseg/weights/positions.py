"""Learned positions, for other grids of tokens and other windows than they were trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.weights.inflate import NEW_AXIS

ABSOLUTE = re.compile(r"(^|[._])(pos|position|positional)_?emb[a-z]*(_window)?(\.(weight|pos_embed))?$")
TABLE = re.compile(r"(^|\.)relative_position_bias_table$")
ALONG_AXIS = re.compile(r"(^|\.)rel_pos_[a-z]+$")
COMPUTED = re.compile(r"(relative_position_index|relative_coords_table|attn_mask|rel_pos_index)$")
"""Buffers that follow from window or grid: the module has its own."""
_MOST_PREFIX = 8
_GUESSED_PREFIX = 5
"""Tokens beside the grid that may be guessed: a class token and four registers."""
_EXTRA_ROWS = (0, 3)
"""Rows of a table beside those of its window: 3 in BEiT, of the class token."""


@dataclass(frozen=True)
class Grids:
    """What an encoder knows of its grid and of the one that its weights were trained on; None where it does not.

    Attributes:
        grid: Tokens of the encoder along each axis.
        trained: Those of the weights; of one axis less where images become volumes.
        window: Cells of the encoder's attention windows along each axis.
        trained_window: Those of the weights.
        new_axis: Which spatial axis is new where images become volumes.
    """

    grid: tuple[int, ...] | None = None
    trained: tuple[int, ...] | None = None
    window: tuple[int, ...] | None = None
    trained_window: tuple[int, ...] | None = None
    new_axis: int = NEW_AXIS

    @property
    def ndim(self) -> int | None:
        """Spatial axes of the encoder; None if it does not say."""
        return _length(self.grid or self.window)

    @property
    def trained_ndim(self) -> int | None:
        """Spatial axes of the weights; None if nothing says so."""
        return _length(self.trained or self.trained_window)


def _length(sizes: Sequence[int] | None) -> int | None:
    return len(sizes) if sizes else None


def known(module: nn.Module, name: str, told: Grids) -> Grids:
    """Grids, with those of the module from where timm and MONAI keep them.

    Args:
        module: The network.
        name: Of a parameter of positions in it.
        told: By the encoder; of the module's own grid and window, only where the module does not say.
    """
    try:
        parent = module.get_submodule(name.rpartition(".")[0])
    except AttributeError:
        return told
    grid, window = (
        getattr(getattr(parent, "patch_embed", None), "grid_size", None),
        getattr(parent, "window_size", None),
    )
    return replace(told, grid=_whole(grid) or told.grid, window=_whole(window) or told.window)


def _whole(sizes: object) -> tuple[int, ...] | None:
    listed = isinstance(sizes, tuple | list) and all(isinstance(s, int) for s in sizes)
    return tuple(sizes) if listed else None  # type: ignore[arg-type]


def resample(
    values: Float[Tensor, "*s d"], shape: Sequence[int], *, antialias: bool = True, new_axis: int = NEW_AXIS
) -> Float[Tensor, "*t d"]:
    """Vectors on a grid, on a grid of another shape that covers the same field.

    Linear along one axis, bicubic in two (as timm and the authors of ViT do), trilinear in three; cell centres
    are aligned, not corners. From two axes to three: resampled in the plane, and repeated along the new axis.

    Args:
        values: One vector for each cell.
        shape: Cells of the new grid.
        antialias: Whether a coarser grid averages over the cells that each of its own covers; in 2D only.
        new_axis: See ``Grids``.

    Example:
        >>> resample(torch.tensor([[0.0], [2.0]]), [4]).flatten().tolist()
        [0.0, 0.5, 1.5, 2.0]
    """
    if values.ndim == len(shape):
        place = new_axis % len(shape)
        flat = resample(values, [*shape[:place], *shape[place + 1 :]], antialias=antialias)
        return flat.unsqueeze(place).repeat_interleave(shape[place], dim=place)
    if tuple(values.shape[:-1]) == tuple(shape):
        return values
    mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[len(shape)]
    first = values.float().movedim(-1, 0)[None]
    averaged = antialias and mode == "bicubic"
    changed = functional.interpolate(first, tuple(shape), mode=mode, align_corners=False, antialias=averaged)
    return changed[0].movedim(0, -1).to(values.dtype)


def absolute(values: Tensor, own: Tensor, grids: Grids, axes: tuple[int, int]) -> tuple[Tensor, str] | None:
    """Absolute positions: ``[1, n, d]`` or ``[n, d]`` with prefix tokens first, ``[1, *s, d]`` or ``[1, d, *s]``.

    Where a grid is not told, it is taken to be a square (a cube), after as few prefix tokens as possible.
    Prefix tokens keep their values; those that only the file has are dropped, those that only the module has
    stay as they are.

    Args:
        values: Of the file.
        own: Of the module.
        grids: What is known.
        axes: Spatial axes of the file's images and of the module's.

    Returns:
        Values in the shape of ``own``, and how they came about; None if they are on its grid already (as many
        tokens, unless both grids are told and differ) or do not fit.
    """
    if own.ndim >= 4:
        return _on_grid(values, own, grids)
    if values.ndim not in (2, 3) or own.shape[-1] != values.shape[-1] or own.numel() != prod(own.shape[-2:]):
        return None
    file, mine = values.reshape(-1, values.shape[-1]), own.reshape(-1, own.shape[-1])
    there = _split(len(mine), grids.grid, axes[1])
    here = _split(len(file), grids.trained, axes[0], like=None if there is None else there.prefix)
    change = _change(here, there)
    if change is None:
        return None
    old, new = change
    placed = resample(file[old.prefix :].reshape(*old.shape, -1), new.shape, new_axis=grids.new_axis)
    prefix = file[: old.prefix] if old.prefix == new.prefix else mine[: new.prefix].to(file)
    note = f"positions {old.told()} -> {new.told()}"
    if old.prefix != new.prefix:
        note += f", {old.prefix} prefix tokens -> {new.prefix}"
    return torch.cat([prefix, placed.flatten(0, -2)]).reshape(own.shape), note


def table(values: Tensor, own: Tensor, grids: Grids, axes: tuple[int, int]) -> tuple[Tensor, str] | None:
    """Relative positions of Swin: ``[(2 w - 1) ..., heads]``, a row for each offset within a window.

    Bicubic without antialiasing in 2D, as the authors of Swin do (timm spaces the points of larger windows
    geometrically, as the authors of BEiT do). Windows that are not told are taken to be square (cubes). Arguments
    and result as of ``absolute``.
    """
    if values.ndim != 2 or own.ndim != 2 or values.shape[1] != own.shape[1]:
        return None
    there, here = (
        _split(len(rows), None if window is None else tuple(2 * w - 1 for w in window), ndim, extras=_EXTRA_ROWS)
        for rows, window, ndim in ((own, grids.window, axes[1]), (values, grids.trained_window, axes[0]))
    )
    change = _change(here, there)
    if change is None or change[0].prefix != change[1].prefix:
        return None
    old, new = change
    rows = len(values) - old.prefix
    placed = resample(values[:rows].reshape(*old.shape, -1), new.shape, antialias=False, new_axis=grids.new_axis)
    note = f"offsets in windows of {old.window()} -> {new.window()}"
    return torch.cat([placed.flatten(0, -2), values[rows:]]), note


def along_axis(values: Tensor, own: Tensor) -> tuple[Tensor, str] | None:
    """Relative positions along one axis, ``[2 s - 1, d]``, as in ViTDet and SAM: linear between offsets."""
    if values.ndim != 2 or own.ndim != 2 or values.shape[1] != own.shape[1] or len(values) == len(own):
        return None
    return resample(values, [len(own)]), f"offsets {len(values)} -> {len(own)}"


@dataclass(frozen=True)
class _Split:
    """A number of tokens as a grid and some beside it; whether that was told or guessed."""

    prefix: int
    shape: tuple[int, ...]
    told_so: bool

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prefix + prod(self.shape)

    def may_become(self, other: _Split) -> bool:
        """Whether axes stay or one is new, and tokens beside the grid stay or are on one side only.

        Where a grid is guessed, that side may have a single one: 20 tokens are 4 x 5 rather than 4 and 4 x 4.
        """
        if len(other.shape) - len(self.shape) not in (0, 1):
            return False
        most = _MOST_PREFIX if self.told_so and other.told_so else 1
        few, many = sorted((self.prefix, other.prefix))
        return few == many or (few == 0 and many <= most)

    def is_like(self, other: _Split) -> bool:
        """Whether it is, or may be, the same grid."""
        return self.shape == other.shape or not (self.told_so and other.told_so)

    def told(self) -> str:
        """The grid in words."""
        return self._words(self.shape)

    def window(self) -> str:
        """The window that has these offsets along each axis, in words."""
        return self._words([(s + 1) // 2 for s in self.shape])

    def _words(self, shape: Sequence[int]) -> str:
        words = _by(shape)
        return words if self.told_so else f"{words} (taken as {'square' if len(shape) == 2 else 'cube'})"


def _change(old: _Split | None, new: _Split | None) -> tuple[_Split, _Split] | None:
    """Both grids where the old one has to be resampled to the new one and can be; None elsewhere."""
    if old is None or new is None or not old.may_become(new):
        return None
    same = old.tokens == new.tokens and old.is_like(new)
    return None if same else (old, new)


def _split(
    n: int,
    told: Sequence[int] | None,
    ndim: int,
    *,
    like: int | None = None,
    extras: Sequence[int] = tuple(range(_MOST_PREFIX + 1)),
) -> _Split | None:
    """How n tokens are a grid and a few others: as told, else equal sides; ``like`` others rather than fewer."""
    if told is not None and n - prod(told) in extras:
        return _Split(n - prod(told), tuple(told), True)
    for prefix in (e for e in (() if like is None else (like,)) + tuple(extras) if e <= _GUESSED_PREFIX):
        side = round(max(n - prefix, 0) ** (1 / ndim))
        if side > 0 and side**ndim == n - prefix:
            return _Split(prefix, (side,) * ndim, False)
    return None


def _on_grid(values: Tensor, own: Tensor, grids: Grids) -> tuple[Tensor, str] | None:
    """``[1, *s, d]`` or ``[1, d, *s]``: the width d is the length in common, the larger one if both are."""
    if values.shape == own.shape or values.ndim not in (own.ndim, own.ndim - 1) or values.ndim < 4:
        return None
    if len(values) != 1 or len(own) != 1:
        return None
    widths = {place: values.shape[place] for place in (1, -1) if values.shape[place] == own.shape[place]}
    if not widths:
        return None
    place = 0 if max(widths, key=lambda i: widths[i]) == 1 else -1
    file, mine = values[0].movedim(place, -1), own[0].movedim(place, -1)
    placed = resample(file, mine.shape[:-1], new_axis=grids.new_axis)
    return placed.movedim(-1, place)[None], f"positions {_by(file.shape[:-1])} -> {_by(mine.shape[:-1])}"


def _by(shape: Sequence[int]) -> str:
    """A shape in words, ``14x14``."""
    return "x".join(str(s) for s in shape)
