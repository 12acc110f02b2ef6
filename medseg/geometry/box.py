"""Axis-aligned boxes of cells, and reading them from arrays that they may overhang."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import gt, sub
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.errors import InputError


@dataclass(frozen=True)
class Box:
    """Cells ``start <= index < stop`` on every axis; ``start`` may be negative (overhang).

    Example:
        >>> Box((2, -1), (5, 3)).shape
        (3, 4)
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop) or any(map(gt, self.start, self.stop)):
            raise InputError(f"box start {self.start} must not exceed its stop {self.stop}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return tuple(map(sub, self.stop, self.start))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of the box in an array that contains it (no overhang)."""
        return tuple(map(slice, self.start, self.stop))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box of all cells of an array of this shape."""
        return cls((0,) * len(shape), tuple(int(s) for s in shape))

    @classmethod
    def at(cls, start: Sequence[int], shape: Sequence[int]) -> Box:
        """The box of a shape whose first cell is ``start``."""
        return cls(tuple(int(a) for a in start), tuple(int(a + s) for a, s in zip(start, shape, strict=True)))

    def clip(self, shape: Sequence[int]) -> Box:
        """Part of the box inside an array of this shape; empty where it lies outside."""
        start = tuple(min(max(a, 0), s) for a, s in zip(self.start, shape, strict=True))
        stop = tuple(min(max(b, 0), s) for b, s in zip(self.stop, shape, strict=True))
        return Box(start, stop)

    def grown(self, cells: Sequence[int]) -> Box:
        """The box with so many cells more on either side of each axis."""
        sides = list(zip(self.start, self.stop, cells, strict=True))
        return Box(tuple(a - n for a, _, n in sides), tuple(b + n for _, b, n in sides))

    def shift(self, offset: Sequence[int]) -> Box:
        """The box moved by ``offset`` cells."""
        return Box.at(tuple(a + o for a, o in zip(self.start, offset, strict=True)), self.shape)


def read_padded(array: Any, box: Box, fill: float) -> Shaped[np.ndarray, "..."]:
    """Cells of ``box`` from an array ``[..., *s]``, ``fill`` where the box overhangs it.

    Args:
        array: Anything that slices like numpy (numpy, blosc2, h5py); only the part inside is read.
        box: Over the last ``len(box.shape)`` axes.
        fill: Value of cells outside the array.
    """
    space = tuple(array.shape[-len(box.shape) :])
    lead = (slice(None),) * (len(array.shape) - len(space))
    inside = box.clip(space)
    part = np.asarray(array[lead + inside.slices])
    if inside == box:
        return part
    padded = np.full((*array.shape[: len(lead)], *box.shape), fill, dtype=part.dtype)  # np.pad takes twice as long
    padded[lead + inside.shift([-a for a in box.start]).slices] = part
    return padded


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box | None:
    """Smallest box around the true cells of ``mask`` ``[*s]``; None if there are none."""
    if not mask.any():
        return None
    start, stop = [], []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        start.append(int(hits[0]))
        stop.append(int(hits[-1]) + 1)
    return Box(tuple(start), tuple(stop))
