"""Contents: facts of the cells of a file from one pass, window by window in bounded memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int, Num, Shaped

from medseg.geometry.box import Box, bounding_box

_SAMPLED = 50_000
"""Cells of a channel that quantiles are taken of."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Shares of the cells below the quantiles of a channel."""
_LABELLED = 1 << 25
"""Cells of a label file up to which its components are counted; larger ones are land cover."""


@dataclass(frozen=True)
class ChannelFacts:
    """One channel of one case (of one of its dates).

    Attributes:
        name: Name of the band, with its date if there are several.
        cells: Cells of the file.
        n_valid: Number of cells with finite values that are not nodata.
        nonfinite: NaN and infinite cells that are not nodata.
        minimum: Smallest value of the valid cells; NaN if there is none.
        maximum: Largest.
        at_minimum: Known cells with the smallest value.
        at_maximum: Known cells with the largest.
        total: Sum of the valid cells.
        quantiles: Quantiles ``QUANTILES`` of some valid cells, evenly spaced; NaN if there is none.
        above_minimum: Smallest and largest of these cells without those of the smallest value; NaN if there is none.
        below_maximum: Smallest and largest without those of the largest value; NaN if there is none.
        digest: Hash of all values in their order.
    """

    name: str
    cells: int
    n_valid: int
    nonfinite: int
    minimum: float
    maximum: float
    at_minimum: int
    at_maximum: int
    total: float
    quantiles: tuple[float, ...]
    above_minimum: tuple[float, float]
    below_maximum: tuple[float, float]
    digest: bytes


class ChannelTally:
    """Adds up a channel window by window; ``facts`` gives the result."""

    def __init__(self, name: str, cells: int) -> None:
        self.name, self.cells = name, cells
        self._step = max(1, cells // _SAMPLED)
        self._known = self._nonfinite = 0
        self._low, self._high = np.inf, -np.inf
        self._at = {"low": 0, "high": 0}
        self._total = 0.0
        self._sample: list[npt.NDArray[np.float32]] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, values: Num[np.ndarray, " *s"], valid: Bool[np.ndarray, " *s"] | None) -> None:
        """Count the cells of one window; ``valid`` is false on nodata, None if there is none."""
        floats = values.astype(np.float32, copy=False)
        self._digest.update(np.ascontiguousarray(floats).ravel().data)
        cells = floats.ravel() if valid is None else floats[valid]
        if values.dtype.kind == "f":
            finite = np.isfinite(cells)
            if not finite.all():
                self._nonfinite += int(cells.size - finite.sum())
                cells = cells[finite]
        if not cells.size:
            return
        self._known += cells.size
        self._total += float(cells.sum(dtype=np.float64))
        low, high = float(cells.min()), float(cells.max())
        for key, value, bound, beyond in (
            ("low", low, self._low, low < self._low),
            ("high", high, self._high, high > self._high),
        ):
            if beyond:
                self._at[key] = 0
            if beyond or value == bound:
                self._at[key] += int(np.count_nonzero(cells == np.float32(value)))
        self._low, self._high = min(low, self._low), max(high, self._high)
        self._sample.append(cells[:: self._step].copy())

    def facts(self) -> ChannelFacts:
        """What was counted."""
        sample = np.concatenate(self._sample) if self._sample else np.zeros(0, np.float32)
        low, high = (self._low, self._high) if self._known else (np.nan, np.nan)
        quantiles = np.quantile(sample, QUANTILES) if sample.size else np.full(len(QUANTILES), np.nan)
        return ChannelFacts(
            self.name, self.cells, self._known, self._nonfinite, low, high, self._at["low"], self._at["high"],
            self._total, tuple(float(q) for q in quantiles), _range(sample[sample != np.float32(low)]),
            _range(sample[sample != np.float32(high)]), self._digest.digest(),
        )  # fmt: skip


def _range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (float("nan"), float("nan"))


@dataclass(frozen=True)
class Part:
    """A connected component of one class.

    Attributes:
        cells: How many.
        centre: Index of its centre.
        gap: Cells between its box and that of the largest component of its class, along the axis where they
            are furthest apart; 0 for the largest.
    """

    cells: int
    centre: tuple[float, ...]
    gap: float


@dataclass(frozen=True)
class LabelFacts:
    """A label file.

    Attributes:
        cells: Cells of the file, also those without data.
        values: Cells of each raw value, without cells that are nodata.
        missing: Cells without data whose value is not declared.
        nonfinite: NaN and infinite cells.
        digest: Of all values in their order.
        parts: Components of each training index but the background's, largest first; None where they weren't counted.
        floats: Whether the file holds floats.
    """

    cells: int
    values: dict[float, int]
    missing: int
    nonfinite: int
    digest: bytes
    parts: dict[int, tuple[Part, ...]] | None = None
    floats: bool = False


@dataclass
class LabelTally:
    """Adds up a label file window by window.

    Args:
        cells: Cells of the file.
        floats: Whether it holds floats.
    """

    cells: int
    floats: bool
    values: Counter[float] = field(default_factory=Counter)
    missing: int = 0
    nonfinite: int = 0
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, raw: Shaped[np.ndarray, " *s"], valid: Bool[np.ndarray, " *s"]) -> None:
        """Count the cells of one window; ``valid`` is false where the file has no data and no declared value."""
        self._digest.update(np.ascontiguousarray(raw.astype(np.float32)))
        cells = raw.ravel() if valid.all() else raw[valid]
        self.missing += raw.size - cells.size
        if raw.dtype.kind == "f" and not (finite := np.isfinite(cells)).all():
            self.nonfinite += int(cells.size - finite.sum())
            cells = cells[finite]
        for value, count in zip(*_counted(cells), strict=True):
            self.values[float(value)] += int(count)

    def facts(self, parts: dict[int, tuple[Part, ...]] | None) -> LabelFacts:
        """What was counted."""
        return LabelFacts(
            self.cells, dict(self.values), self.missing, self.nonfinite, self._digest.digest(), parts, self.floats
        )


def countable(shape: Sequence[int]) -> bool:
    """Whether components of an array of this shape are counted."""
    return int(np.prod(shape)) <= _LABELLED


def parts_of(index: Int[np.ndarray, " *s"], *, background: bool) -> dict[int, tuple[Part, ...]]:
    """Components of each training index, largest first, the background (0) and ignored cells (negative) left out.

    Cells that touch at a corner are connected.
    """
    shown = np.where(index < 0, 0, index if background else index + 1).astype(np.uint16)
    box = bounding_box(shown > 0)  # components of a small structure in a large scan are sought around it only
    if box is None:
        return {}
    shown = np.ascontiguousarray(shown[box.slices])
    components = cc3d.connected_components(shown, connectivity=26 if index.ndim == 3 else 8)
    counts = cc3d.statistics(components)
    class_of = np.zeros(len(counts["voxel_counts"]), dtype=np.int64)
    class_of[components.ravel()] = shown.ravel()
    parts: dict[int, tuple[Part, ...]] = {}
    for value in np.unique(class_of[1:]):
        members = 1 + np.flatnonzero(class_of[1:] == value)
        ordered = members[np.argsort(-counts["voxel_counts"][members].astype(np.int64), kind="stable")]
        boxes = [_bounds(counts["bounding_boxes"][m]) for m in ordered[:1000]]
        parts[int(value) - (not background)] = tuple(
            Part(
                int(counts["voxel_counts"][m]),
                tuple((counts["centroids"][m] + box.start).tolist()),
                _gap(boxes[0], bounds),
            )
            for m, bounds in zip(ordered, boxes, strict=False)
        )
    return parts


def _bounds(slices: Sequence[slice]) -> Box:
    return Box(tuple(int(s.start) for s in slices), tuple(int(s.stop) for s in slices))


def _gap(one: Box, other: Box) -> float:
    gaps = [max(a - d, c - b, 0) for a, b, c, d in zip(one.start, one.stop, other.start, other.stop, strict=True)]
    return float(max(gaps))


def _counted(cells: Shaped[np.ndarray, " n"]) -> tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]:
    """Values and their counts; small unsigned integers without sorting."""
    if cells.dtype == np.uint8:
        counts = np.bincount(cells, minlength=1)
        values = np.flatnonzero(counts)
        return values, counts[values]
    if cells.dtype.kind == "f":
        whole = np.rint(cells)
        if cells.size and (whole == cells).all() and np.abs(whole).max() < 2**31:
            cells = whole.astype(np.int32)
    return np.unique(cells, return_counts=True)
