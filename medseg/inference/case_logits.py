"""Logits of a whole case on its own cells, a few rows at a time, and the arrays that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from medseg.errors import InputError
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid, reorient_back
from medseg.geometry.resample import spline_orders
from medseg.inference.case_network import mean_case_prob
from medseg.inference.decide import decide, logits_of, prob_of
from medseg.inference.rows import Rows, Slab, axis_first, resized_rows
from medseg.labels import LabelTable


@runtime_checkable
class Placement(Protocol):
    """Where the cells of a prepared case lie in its file; ``PreprocessTrace`` is one."""

    @property
    def source(self) -> Grid:
        """Grid of the file."""
        ...

    @property
    def axes(self) -> tuple[int, ...]:
        """Axis order given to ``reorient``."""
        ...

    @property
    def flips(self) -> tuple[bool, ...]:
        """Flips given to ``reorient``."""
        ...

    @property
    def box(self) -> Box:
        """Box kept of the reoriented array."""
        ...

    @property
    def grid(self) -> Grid:
        """Grid after resampling."""
        ...


@dataclass(frozen=True)
class CaseLogits:
    """Logits of one case on the cells of its file, reoriented and cropped.

    Attributes:
        rows: Logits of the box, its axis ``axis`` first; they can be taken once.
        axis: Axis of the reoriented array along which rows follow each other.
        axes: Axis order of the reoriented array in the file.
        flips: Flips of the reoriented array.
        box: Cells of the reoriented array that have logits; the others are background for certain.
        shape: Of the reoriented array.
        labels: What the logits mean.
        case_logits: Of each network that classifies cases, the logits ``[n, m]`` of windows; complete when the rows
            are taken.
    """

    rows: Rows
    axis: int
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    box: Box
    shape: tuple[int, ...]
    labels: LabelTable
    case_logits: tuple[list[Tensor], ...] = ()

    @classmethod
    def resampled(
        cls,
        rows: Rows,
        axis: int,
        placement: Placement,
        labels: LabelTable,
        case_logits: tuple[list[Tensor], ...] = (),
    ) -> CaseLogits:
        """Of logits of the prepared cells, which are resampled to those of the file."""
        old, box = placement.grid, placement.box
        orders = spline_orders(old, box.shape, 1)
        back = resized_rows(rows, axis_first(old.shape, axis), axis_first(box.shape, axis), axis_first(orders, axis))
        shape = tuple(placement.source.shape[a] for a in placement.axes)
        return cls(back, axis, placement.axes, placement.flips, box, shape, labels, case_logits)

    @property
    def box_shape(self) -> tuple[int, ...]:
        """Cells of the box, those along which rows follow each other first."""
        return axis_first(self.box.shape, self.axis)

    @property
    def case_prob(self) -> Float[np.ndarray, " m"] | None:
        """Probability of each class of the case, once the rows are taken; None if no network classifies cases."""
        return mean_case_prob(self.case_logits)

    def index(self, on_slab: Callable[[Slab], None] | None = None) -> Int[np.ndarray, " *s"]:
        """Training index of each cell of the file.

        Args:
            on_slab: Called with each slab of the box.
        """
        index = np.zeros(self.box_shape, index_dtype(self.labels))
        for slab in self.rows:
            index[slab.rows] = decide(slab.logits, self.labels).cpu().numpy()
            if on_slab is not None:
                on_slab(slab)
        return self.restored(index, 0).astype(np.int16)

    def index_and_prob(self, temperature: float = 1.0) -> tuple[Int[np.ndarray, " *s"], Float[np.ndarray, "k *s"]]:
        """What ``index`` gives, and the probability of each class, or of each region; 4 k bytes a cell.

        Cells outside the box are of the first class for certain, and of no region. Logits are divided by the
        temperature for probabilities only.
        """
        prob = np.empty((self.labels.n_outputs, *self.box_shape), np.float32)

        def keep(slab: Slab) -> None:
            prob[:, slab.rows] = prob_of(slab.logits / temperature, self.labels).cpu().numpy()

        index, certain = self.index(keep), certain_background(self.labels).tolist()
        return index, np.stack([self.restored(p, o) for p, o in zip(prob, certain, strict=True)])

    def restored(self, cells: Shaped[np.ndarray, " *b"], outside: float) -> Shaped[np.ndarray, " *s"]:
        """Values of the box, ``axis`` first, on the cells of the file."""
        whole = np.moveaxis(cells, 0, self.axis)
        if self.box.shape != self.shape:
            whole = np.full(self.shape, outside, dtype=cells.dtype)
            whole[self.box.slices] = np.moveaxis(cells, 0, self.axis)
        return np.ascontiguousarray(reorient_back(whole, self.axes, self.flips))

    def widened(self, box: Box) -> CaseLogits:
        """The same logits in a larger box, where what is added is background for certain."""
        return self if box == self.box else replace(self, rows=self._widened(box), box=box)

    def _widened(self, box: Box) -> Rows:
        own = self.box.shift([-a for a in box.start])
        rows, *across = axis_first(own.slices, self.axis)
        count, *rest = axis_first(box.shape, self.axis)
        background = background_slab(self.labels, len(box.shape)).logits
        for row in range(rows.start):
            yield Slab(row, background.expand(-1, 1, *rest))
        for slab in self.rows:
            whole = background.to(slab.logits.device).repeat(1, slab.logits.shape[1], *rest)
            whole[(slice(None), slice(None), *across)] = slab.logits
            yield Slab(rows.start + slab.row, whole)
        for row in range(rows.stop, count):
            yield Slab(row, background.expand(-1, 1, *rest))


def index_dtype(labels: LabelTable) -> np.dtype[Any]:
    """The smallest type that holds training indices and ``IGNORE``."""
    return np.dtype(np.int8 if labels.n_classes < 128 else np.int16)


def certain_background(labels: LabelTable) -> Float[Tensor, " k"]:
    """Probabilities of a cell that is certainly of the first class, and of no region."""
    prob = torch.zeros(labels.n_outputs)
    if not labels.regions:
        prob[0] = 1
    return prob


def background_slab(labels: LabelTable, ndim: int = 1) -> Slab:
    """One cell that is certainly of the first class, and of no region; networks agree on it."""
    logits = logits_of(certain_background(labels), labels)
    return Slab(0, logits.reshape(-1, *[1] * ndim), torch.zeros([1] * ndim))


def finite_rows(rows: Rows, case: str) -> Rows:
    """The same rows.

    Raises:
        InputError: One of them is not finite.
    """
    for slab in rows:
        check_finite(slab, case)
        yield slab


def check_finite(slab: Slab, case: str) -> None:
    """Raise if logits are not finite.

    Raises:
        InputError: Names the case.
    """
    if not torch.isfinite(slab.logits.sum()):
        raise InputError(
            f"case {case}: the network gives values that are not finite, whatever the image holds; its "
            "training diverged, or the checkpoint is damaged: take another one, such as the run's best.ckpt"
        )
