"""Images of any size: windows stream through a network, and rows of classes out to a sink."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from types import TracebackType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from medseg.geometry.box import Box
from medseg.inference.decide import decide
from medseg.inference.rows import Rows, Slab, averaged_rows
from medseg.inference.sliding_window import ring_spans, slabs, window_batches
from medseg.inference.tiling import Tiling
from medseg.labels import LabelTable

ReadReady = Callable[[Box], tuple[Float[np.ndarray, "c *w"], Bool[np.ndarray, " *w"]]]
"""Image of a box inside the scene, ready for the network and finite everywhere, and where it is valid."""

_AHEAD = 4  # pieces that are read while the network runs


@runtime_checkable
class Sink(Protocol):
    """Where rows go; ``medseg.formats.sink.RasterSink`` is one."""

    dtype: np.dtype[Any]
    nodata: int | float

    @property
    def rows_done(self) -> int:
        """Rows that are kept already, from the first on."""
        ...

    def keep(self, rows: int) -> None:
        """Forget the rows from ``rows`` on."""
        ...

    def append(self, cells: Shaped[np.ndarray, "n r *rest"]) -> None:
        """Keep further rows, of n bands."""
        ...


BandsOf = Callable[[Slab, LabelTable], Shaped[np.ndarray, "n r *rest"]]
"""Maps a slab and the labels of its logits to bands."""


class ExtraBands(NamedTuple):
    """Bands that are written in addition to classes.

    Attributes:
        of: Makes them of logits.
        sink: Where they go; its ``nodata`` where cells are not valid.
    """

    of: BandsOf
    sink: Sink


class SceneNetwork(NamedTuple):
    """A network and the scene as it sees it.

    Attributes:
        read: Called in a thread of its own, for boxes that together hold each cell once.
        tiling: Windows, flips and precision.
        network: Runs on the device where it lies.
        case_logits: Where it appends the logits of the class of the case; None of one that does not classify cases.
    """

    read: ReadReady
    tiling: Tiling
    network: nn.Module
    case_logits: list[Tensor] | None = None


def stream(
    members: Sequence[SceneNetwork],
    shape: Sequence[int],
    labels: LabelTable,
    sink: Sink,
    *,
    extra: Sequence[ExtraBands] = (),
    on_rows: Callable[[int], None] | None = None,
) -> None:
    """Predict an image of any size, row by row, from where the sinks stand.

    What is written equals the decision on ``tiling.logits`` of the whole image, and does not depend on
    where earlier runs were broken off. (Windows without a valid cell skip the network; if that leaves
    batches smaller, logits may differ in their last bits.) Memory is bounded by the rows of a window of each
    network: their image, their logits, and a few pieces read ahead by a thread while the network runs.

    Args:
        members: One network, or several, whose probabilities are averaged.
        shape: Of the image.
        labels: What the logits mean.
        sink: Gets one band of saved values, its ``nodata`` where cells are not valid.
        extra: Further bands that are made of the logits.
        on_rows: Called with the number of rows that are done, each time some are.
    """
    sinks = [sink, *(bands.sink for bands in extra)]
    # the class of a case needs every window
    anew = any(member.case_logits is not None for member in members)
    first = 0 if anew else min(s.rows_done for s in sinks)
    for s in sinks:
        s.keep(first)
    with closing(scene_slabs(members, shape, labels, first=first)) as slabs_done:
        for slab, invalid in slabs_done:
            saved = labels.to_saved(decide(slab.logits, labels).cpu().numpy())
            _append(sink, saved[None], invalid)
            for bands in extra:
                _append(bands.sink, bands.of(slab, labels), invalid)
            if on_rows is not None:
                on_rows(slab.stop)


def scene_slabs(
    members: Sequence[SceneNetwork], shape: Sequence[int], labels: LabelTable, *, first: int = 0
) -> Generator[tuple[Slab, Bool[np.ndarray, "r *rest"]]]:
    """Logits of an image of any size a few rows at a time, and where cells are not valid; for ``stream`` and scores.

    Args:
        members: One network, or several, whose probabilities are averaged.
        shape: Of the image.
        labels: What the logits mean.
        first: Row to begin with.
    """
    with ExitStack() as opened:
        strips, rows = [], []
        for member in members:
            strip, own = _scene_rows(member, shape, labels, first, opened)
            strips.append(strip)
            rows.append(own)
        for slab in averaged_rows(rows, labels):
            yield slab, ~np.logical_and.reduce([strip.valid(slab.row, slab.stop) for strip in strips])


def _scene_rows(
    member: SceneNetwork, shape: Sequence[int], labels: LabelTable, first: int, opened: ExitStack
) -> tuple[Strip, Rows]:
    """The rows of a scene that are read for one network, and its logits of them."""
    read, tiling, network, _ = member
    tiles = tiling.tiles(network) | {"first": first}
    margin = tiles.pop("margin")
    device = next(network.parameters(), torch.empty(0)).device
    boxes = [box.grown(margin) for batch in window_batches(shape, **tiles) for box in batch]
    run = opened.enter_context(tiling.running(network, device))
    strip = opened.enter_context(Strip(read, shape, boxes))
    rows = slabs(strip.window, shape, lambda n: run(n.to(device)), n_outputs=labels.n_outputs, margin=margin, **tiles)
    return strip, (Slab(row, logits) for row, logits in rows)


def _append(sink: Sink, cells: Shaped[np.ndarray, "n r *rest"], invalid: Bool[np.ndarray, "r *rest"]) -> None:
    cells = cells.astype(sink.dtype)
    np.copyto(cells, sink.nodata, where=invalid)
    sink.append(cells)


class Strip:
    """The rows of an image that windows need now: a ring as high as a window, filled by a thread that reads ahead.

    Windows overlap, but every cell is read and prepared only once.

    Args:
        read: Gives the boxes that are asked of it, in order.
        shape: Of the image.
        boxes: The windows that ``window`` will be asked for, in the order of ``window_batches``.
    """

    def __init__(self, read: ReadReady, shape: Sequence[int], boxes: Sequence[Box]) -> None:
        self._read = read
        self._shape = tuple(shape)
        self._rows = min(boxes[0].shape[0], shape[0]) if boxes else 0
        self._todo = unread_boxes(boxes, shape)
        self._ahead: deque[tuple[Box, Future[Any] | None]] = deque()
        self._pool = ThreadPoolExecutor(1, "medseg-read")
        self._image: Tensor | None = None
        self._counts = torch.zeros((self._rows, *self._shape[1:]), dtype=torch.bool)
        self._masks: list[tuple[Box, Bool[np.ndarray, " *w"]]] = []

    def __enter__(self) -> Strip:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def window(self, box: Box) -> Float[Tensor, "c *w"] | None:
        """Image of the next window, 0 outside the scene; None if no cell of it is valid."""
        self._load()
        inside = box.clip(self._shape)
        spans = list(ring_spans(inside.start[0], inside.stop[0], self._rows))
        across = inside.slices[1:]
        if self._image is None or not any(self._counts[(ring, *across)].any() for ring, _ in spans):
            return None
        window = (torch.empty if inside == box else torch.zeros)((len(self._image), *box.shape))
        part = window[(slice(None), *inside.shift([-a for a in box.start]).slices)]
        for ring, rows in spans:
            part[:, rows] = self._image[(slice(None), ring, *across)]
        return window

    def valid(self, first: int, stop: int) -> Bool[np.ndarray, "r *rest"]:
        """Which cells of these rows are valid; asked in order, after the windows that touch them."""
        valid = np.zeros((stop - first, *self._shape[1:]), dtype=bool)
        for box, mask in self._masks:
            top, bottom = max(first, box.start[0]), min(stop, box.stop[0])
            if top < bottom:
                rows = mask[top - box.start[0] : bottom - box.start[0]]
                valid[(slice(top - first, bottom - first), *box.slices[1:])] = rows
        self._masks = [(box, mask) for box, mask in self._masks if box.stop[0] > stop]
        return valid

    def _load(self) -> None:
        """Put the next piece where it belongs, and have the ones after it read."""
        while len(self._ahead) <= _AHEAD and (box := next(self._todo, None)) is not None:
            self._ahead.append((box, None if 0 in box.shape else self._pool.submit(self._read, box)))
        box, piece = self._ahead.popleft()
        if piece is None:
            return
        image, valid = piece.result()
        if self._image is None:
            self._image = torch.zeros((len(image), *self._counts.shape))
        for ring, rows in ring_spans(box.start[0], box.stop[0], self._rows):
            place = (ring, *box.slices[1:])
            self._image[(slice(None), *place)] = torch.from_numpy(image[:, rows])
            self._counts[place] = torch.from_numpy(valid[rows])
        self._masks.append((box, valid))


def unread_boxes(boxes: Iterable[Box], shape: Sequence[int]) -> Iterator[Box]:
    """What each window needs that the windows before it did not: boxes inside the scene, perhaps empty.

    New rows are read as far along the second axis as windows reach, whole along further axes.

    Example:
        >>> windows = [Box((0, 0), (4, 4)), Box((0, 3), (4, 7)), Box((2, 0), (6, 4))]
        >>> [(box.start, box.stop) for box in unread_boxes(windows, (6, 7))]
        [((0, 0), (4, 4)), ((0, 4), (4, 7)), ((4, 0), (6, 4))]
    """
    before: Box | None = None
    top = right = 0
    for box in boxes:
        inside = box.clip(shape)
        if before is None or inside.start[0] != before.start[0]:
            top, right = inside.start[0] if before is None else before.stop[0], 0
        start, stop = [top, *[0] * (len(shape) - 1)], [inside.stop[0], *shape[1:]]
        if len(shape) > 1:
            start[1], stop[1] = right, max(right, inside.stop[1])
            right = stop[1]
        before = inside
        yield Box(tuple(start), tuple(stop))
