"""Logits of a case a few rows at a time: resampled, averaged over networks, or kept in a file meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from tempfile import TemporaryFile
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from medseg.geometry.resample import taps
from medseg.inference.decide import entropy, logits_of, prob_of
from medseg.labels import LabelTable


class Slab(NamedTuple):
    """A few whole rows: cells along axis 0.

    Attributes:
        row: The first of them.
        logits: Of each cell.
        disagreement: Of several networks, their mutual information in each cell, in nats; else None.
    """

    row: int
    logits: Float[Tensor, "k r *rest"]
    disagreement: Float[Tensor, "r *rest"] | None = None

    @property
    def stop(self) -> int:
        """The row after them."""
        return self.row + self.logits.shape[1]

    @property
    def rows(self) -> slice:
        """Where they lie."""
        return slice(self.row, self.stop)


Rows = Iterator[Slab]
"""Slabs from the first row to the last, without gaps."""

T = TypeVar("T")


def axis_first(values: Sequence[T], axis: int) -> tuple[T, ...]:
    """Values of the axes of an array after ``moveaxis(axis, 0)``.

    Example:
        >>> axis_first((4, 5, 6), 2)
        (6, 4, 5)
    """
    return (values[axis], *values[:axis], *values[axis + 1 :])


def resized_rows(rows: Rows, old: Sequence[int], new: Sequence[int], orders: Sequence[int]) -> Rows:
    """Logits of other cells over the same extent, as ``geometry.resample.resample_image`` defines them.

    Memory: the rows that a new row lies between.

    Args:
        rows: Of ``old[0]`` rows.
        old: Shape of the cells.
        new: Shape of the new ones.
        orders: Of each axis: 0 takes the nearest cell, 1 interpolates linearly.
    """
    if tuple(old) == tuple(new):
        yield from rows
        return
    index, weight = taps(old[0], new[0], 0 if old[0] == new[0] else orders[0])
    needed = index.max(axis=1)  # last old row of each new one
    grows = prod(new[1:]) > prod(old[1:])  # then rows come first, as fewer cells are kept
    kept: Tensor | None = None
    first = done = 0
    for _, logits, _ in rows:
        across = logits if grows else _resized_across(logits, new[1:], orders[1:])
        kept = across if kept is None else torch.cat([kept, across], dim=1)
        stop = int(np.searchsorted(needed, first + kept.shape[1]))
        while done < stop:
            until = min(stop, done + max(1, logits.shape[1]))
            between = _weighted(kept, index[done:until] - first, weight[done:until])
            yield Slab(done, _resized_across(between, new[1:], orders[1:]) if grows else between)
            done = until
        past = first + kept.shape[1]
        next_needed = min(past, int(index[done].min())) if done < new[0] else past
        kept, first = kept[:, next_needed - first :], next_needed


def _weighted(
    kept: Float[Tensor, "k old *rest"], index: np.ndarray, weight: np.ndarray
) -> Float[Tensor, "k new *rest"]:
    """New rows as weighted sums of one or two old ones each."""
    rows = [kept.index_select(1, torch.from_numpy(index[:, tap]).to(kept.device)) for tap in range(index.shape[1])]
    if len(rows) == 1:
        return rows[0]
    above = torch.from_numpy(weight[:, 1]).to(kept.device).reshape(-1, *[1] * (kept.ndim - 2))
    return torch.lerp(rows[0], rows[1], above)


def _resized_across(
    logits: Float[Tensor, "k r *old"], new: Sequence[int], orders: Sequence[int]
) -> Float[Tensor, "k r *new"]:
    """Rows resampled along all other axes."""
    for axis, (cells, order) in enumerate(zip(new, orders, strict=True), start=2):
        if order == 0 and logits.shape[axis] != cells:
            index = torch.from_numpy(taps(logits.shape[axis], cells, 0)[0][:, 0])
            logits = logits.index_select(axis, index.to(logits.device))
    if tuple(logits.shape[2:]) == tuple(new):
        return logits
    mode = {1: "linear", 2: "bilinear"}[len(new)]
    return F.interpolate(logits.transpose(0, 1), size=tuple(new), mode=mode, align_corners=False).transpose(0, 1)


def averaged_rows(members: Sequence[Rows], labels: LabelTable) -> Rows:
    """Logits whose probabilities are the mean of those of several networks; of a single one its own.

    The networks run in turns, each as far as the next rows need it.

    Args:
        members: Rows of each network, of any number at a time.
        labels: What logits mean.
    """
    if len(members) == 1:
        yield from members[0]
        return
    for done, parts in _in_step(members):
        probs = [prob_of(logits, labels).to(parts[0].device) for logits in parts]
        mean = torch.stack(probs).mean(0)
        spread = entropy(mean, labels) - torch.stack([entropy(prob, labels) for prob in probs]).mean(0)
        yield Slab(done, logits_of(mean, labels), spread.clamp_min(0))


def _in_step(members: Sequence[Rows]) -> Iterator[tuple[int, list[Float[Tensor, "k r *rest"]]]]:
    """The same rows of every member, as many as all have at hand, and the first of them."""
    at_hand = [next(rows, None) for rows in members]
    done = 0
    while all(slab is not None for slab in at_hand):
        slabs = [slab for slab in at_hand if slab is not None]
        stop = min(slab.stop for slab in slabs)
        yield done, [slab.logits[:, done - slab.row : stop - slab.row] for slab in slabs]
        done = stop
        at_hand = [next(rows, None) if slab.stop == done else slab for slab, rows in zip(slabs, members, strict=True)]


def spooled_rows(rows: Rows) -> Rows:
    """The same rows, all computed now, and read from a temporary file when they are asked for.

    The file lies in the system's temporary folder, which needs room for k values of four bytes a cell; it has no name
    and goes when the rows do, or the program ends.

    Args:
        rows: Float32.
    """
    file = TemporaryFile(prefix="medseg-")  # noqa: SIM115  closed when its rows were read
    parts: list[tuple[int, tuple[int, ...], torch.device]] = []
    for row, logits, _ in rows:
        file.write(logits.contiguous().cpu().numpy().data)
        parts.append((row, tuple(logits.shape), logits.device))
    file.seek(0)

    def read() -> Rows:
        with file:
            for row, shape, device in parts:
                values = np.empty(shape, np.float32)
                file.readinto(values.data)
                yield Slab(row, torch.from_numpy(values).to(device))

    return read()
