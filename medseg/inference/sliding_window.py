"""The sliding window: one implementation for any number of axes, in memory or row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError
from medseg.geometry.box import Box

Network = Callable[[Tensor], Tensor]
"""Maps ``[b, c, *w]`` to ``[b, k, *w]`` of the same spatial shape, or one that is smaller by a margin."""

Read = Callable[[Box], Tensor | None]
"""Image ``[c, *w]`` of a window; None where the window holds nothing to predict."""

LEAST_WEIGHT = 1e-3
"""Smallest weight of a cell of a window in the blend."""
SIGMA = 1 / 8
"""Standard deviation of the weights, as a share of the window."""
_LARGE_SUMS = 2**28  # values; float32 sums of more take more than 1 GiB
_TERM_VALUES = 2**20  # weighted logits at a time; sums of float16 take three times their memory
_SLAB_VALUES = 2**20  # logits of a slab, so that what is done with them stays in the processor's cache


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """First cells of the windows along one axis, evenly spread from border to border.

    Neighbours overlap by at least ``overlap`` of the window; there are as few windows as that allows
    (nnU-Net 4.13).

    Example:
        >>> window_starts(10, 4, 0.5)
        [0, 2, 4, 6]
    """
    if size <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    count = -(-(size - window) // step) + 1
    return [round(i * (size - window) / (count - 1)) for i in range(count)]


def window_batches(
    shape: Sequence[int], *, window: Sequence[int], overlap: float, batch_size: int, first: int = 0
) -> list[list[Box]]:
    """Windows of an image in the order in which they are run, the last axis fastest, in batches.

    A window larger than the image overhangs it on both sides (at the end by one more, if odd). With
    ``first``, batches that touch no row from there on are left out; the others are those of a whole run.

    Raises:
        InputError: Window and image differ in their number of axes, or overlap is out of range.

    Example:
        >>> [[box.start for box in batch] for batch in window_batches((6, 3), window=(4, 5), overlap=0, batch_size=1)]
        [[(0, -1)], [(2, -1)]]
    """
    if len(shape) != len(window):
        raise InputError(f"window {tuple(window)} has {len(window)} axes, the image {tuple(shape)} has {len(shape)}")
    if not 0 <= overlap < 1:
        raise InputError(f"inference.overlap={overlap} is out of range; choose 0 <= overlap < 1")
    before = [max(w - s, 0) // 2 for s, w in zip(shape, window, strict=True)]
    starts = product(*[window_starts(s, w, overlap) for s, w in zip(shape, window, strict=True)])
    boxes = [Box.at(start, window).shift([-b for b in before]) for start in starts]
    batches = [boxes[i : i + batch_size] for i in range(0, len(boxes), batch_size)]
    return [batch for batch in batches if min(batch[-1].stop[0], shape[0]) > first]


@lru_cache(maxsize=8)
def gaussian_weight(window: tuple[int, ...]) -> Float[Tensor, " *w"]:
    """Weight of each cell of a window in the blend, in (0, 1], float32.

    A Gaussian about the window's centre with sigma an eighth of the window on each axis, not below
    1e-3, so that a cell covered only by a window's corner still divides safely.
    """
    weight = torch.ones(())
    for size in window:
        place = torch.arange(size) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (place / (size * SIGMA)) ** 2)
    return weight.clamp_min(LEAST_WEIGHT).float()


def ring_spans(first: int, stop: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Where rows lie in a ring of ``size`` rows, which holds row r at r modulo ``size``.

    Yields:
        Up to two pairs: a slice of the ring, and the rows that lie there, counted from ``first``.

    Example:
        >>> list(ring_spans(3, 6, 4))
        [(slice(3, 4, None), slice(0, 1, None)), (slice(0, 2, None), slice(1, 3, None))]
    """
    row = first
    while row < stop:
        end = min(stop, row - row % size + size)
        yield slice(row % size, row % size + end - row), slice(row - first, end - first)
        row = end


class _Blend:
    """Weighted sums of the rows that windows still touch: a ring as high as a window.

    Sums are float32; of more than 2^28 values (1 GiB) float16, which rounds logits to 3 digits, as nnU-Net keeps all.

    Args:
        shape: Of the image.
        window: Of a window.
        first: Rows before it are neither summed nor given.
        n_outputs: Logits, k; needed only if rows are taken before any are added.
    """

    def __init__(self, shape: Sequence[int], window: Sequence[int], first: int, n_outputs: int | None) -> None:
        self._shape = tuple(shape)
        self._weight = gaussian_weight(tuple(window))
        self._rows = min(window[0], shape[0])
        self._given = first
        self._n_outputs = n_outputs
        self._logits: Tensor | None = None
        self._total = torch.empty(0)

    def add(self, box: Box, logits: Float[Tensor, "k *w"]) -> None:
        """Sum the logits of one window, of which ``take`` has given all rows before its first."""
        if self._logits is None:
            ring = (self._rows, *self._shape[1:])
            dtype = torch.float16 if len(logits) * prod(ring) > _LARGE_SUMS else logits.dtype
            self._logits = logits.new_zeros((len(logits), *ring), dtype=dtype)
            self._total = logits.new_zeros(ring)
            self._weight = self._weight.to(logits.device)
        inside = box.clip(self._shape)
        top = max(inside.start[0], self._given)
        cut = inside.shift([-a for a in box.start]).slices[1:]
        for lines, rows in ring_spans(top, inside.stop[0], self._rows):
            source = (slice(rows.start + top - box.start[0], rows.stop + top - box.start[0]), *cut)
            place, weight = (lines, *inside.slices[1:]), self._weight[source]
            at_once = max(1, _TERM_VALUES // weight.numel())
            for k in range(0, len(logits), at_once):
                channels = slice(k, k + at_once)
                # not addcmul_: whether that rounds once or twice may depend on how rows are split
                self._logits[(channels, *place)] += logits[(channels, *source)] * weight
            self._total[place] += weight

    def take(self, stop: int) -> Iterator[tuple[int, Float[Tensor, "k *r"]]]:
        """Blended logits of the rows before ``stop``, a few at a time; their place becomes free."""
        while self._given < stop:
            rows = max(1, _SLAB_VALUES // max(1, self._outputs() * prod(self._shape[1:])))
            ring, _ = next(ring_spans(self._given, min(stop, self._given + rows), self._rows))
            yield self._given, self._finished(ring)
            self._given += ring.stop - ring.start

    def _outputs(self) -> int:
        if self._logits is not None:
            return len(self._logits)
        if self._n_outputs is None:
            raise ValueError("the first window has no image; give n_outputs to slabs")
        return self._n_outputs

    def _finished(self, ring: slice) -> Float[Tensor, "k *r"]:
        if self._logits is None:
            return torch.zeros((self._outputs(), ring.stop - ring.start, *self._shape[1:]))
        blended = self._logits[:, ring] / self._total[ring].clamp_min(LEAST_WEIGHT)
        self._logits[:, ring] = 0
        self._total[ring] = 0
        return blended


def slabs(
    read: Read,
    shape: Sequence[int],
    network: Network,
    *,
    window: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 1,
    first: int = 0,
    n_outputs: int | None = None,
    margin: Sequence[int] = (),
) -> Iterator[tuple[int, Float[Tensor, "k r *rest"]]]:
    """Blended logits of an image in slabs of rows (cells along axis 0), each as soon as no window can change it.

    Windows run in the order of their first row; sums are kept for as many rows as a window has. Sums are
    float32 whatever the network returns, on its device (float16 where they would take more than 1 GiB).

    Args:
        read: Called once for each window, in order; the box overhangs an image that is smaller than the
            window. None skips the network there: the window adds no weight, and cells that no window
            gave weight to have logits of 0. So None must be said only of windows without a cell that counts.
        shape: Of the image.
        network: Called with ``[n, c, *window]``, n up to ``batch_size``.
        window: Cells of a window on each axis, of which there are logits.
        overlap: Least share of a window that its neighbour covers too, in [0, 1).
        batch_size: Windows per call.
        first: Row to begin with. What is given from there on equals a whole run's to the last bit: the
            same windows in the same batches are summed in the same order. Earlier windows do not run.
        n_outputs: Number of logits, k; needed if ``read`` may give None.
        margin: Cells on either side of each axis of a window that the network gives no logits of. ``read`` is called
            with windows that are larger by it, and overhang the image at its border.

    Yields:
        First row, and the logits of a few whole rows from there on, without gaps.

    Raises:
        InputError: Window and image differ in their number of axes, or overlap is out of range.
    """
    batches = window_batches(shape, window=window, overlap=overlap, batch_size=batch_size, first=first)
    blend = _Blend(shape, window, first, n_outputs)
    margin = margin or (0,) * len(window)
    for boxes in batches:
        yield from blend.take(boxes[0].start[0])  # before there are logits of this batch, which may be as large
        images = [read(box.grown(margin)) for box in boxes]
        there = [image for image in images if image is not None]
        logits = iter(network(_stacked(there)).float()) if there else iter(())
        for box, image in zip(boxes, images, strict=True):
            yield from blend.take(box.start[0])
            if image is not None:
                blend.add(box, next(logits))
        del logits  # before the next batch needs as much memory
    yield from blend.take(shape[0])


def _stacked(images: list[Tensor]) -> Float[Tensor, "b c *w"]:
    return torch.stack(images) if len(images) > 1 else images[0][None]  # one needs no copy


def sliding_window(
    image: Float[Tensor, "c *s"],
    network: Network,
    *,
    window: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 1,
    margin: Sequence[int] = (),
) -> Float[Tensor, "k *s"]:
    """Logits of a whole image from overlapping windows, blended with Gaussian weights.

    An image smaller than the window is padded with 0 on both sides and the padding is cut off again.
    A network that returns its input gives the image back to rounding. See ``slabs``.

    Args:
        image: On the device where sums are kept.
        network: Called with ``[n, c, *window]``, n up to ``batch_size``.
        window: Cells of a window on each axis.
        overlap: Least share of a window that its neighbour covers too, in [0, 1).
        batch_size: Windows per call.
        margin: See ``slabs``.

    Raises:
        InputError: Window and image differ in their number of axes, or overlap is out of range.
    """
    space = tuple(image.shape[1:])
    tiles: dict[str, Any] = {"window": window, "overlap": overlap, "batch_size": batch_size}
    tiles["margin"] = margin
    whole: Tensor | None = None
    for row, logits in slabs(windows_of(image, window, margin), space, network, **tiles):
        if whole is None:
            whole = logits.new_empty((len(logits), *space))
        whole[:, row : row + logits.shape[1]] = logits
    if whole is None:
        raise InputError(f"the image is empty: {tuple(image.shape)}")
    return whole


def windows_of(image: Float[Tensor, "c *s"], window: Sequence[int], margin: Sequence[int] = ()) -> Read:
    """Windows of an image in memory, of 0 outside; see ``slabs``."""
    margin = margin or (0,) * len(window)
    missing = [max(w - s, 0) for s, w in zip(image.shape[1:], window, strict=False)]
    before = [m // 2 + b for m, b in zip(missing, margin, strict=True)]
    after = [m - m // 2 + b for m, b in zip(missing, margin, strict=True)]
    if any(before) or any(after):
        image = F.pad(image, [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair])
    return lambda box: image[(slice(None), *box.shift(before).slices)]
