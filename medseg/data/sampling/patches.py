"""Which patch is drawn: a function of (seed, step, sample), never of state or of worker count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from medseg.data.case import Observers
from medseg.facts import CaseFacts
from medseg.geometry.box import Box
from medseg.sample import Sample

TRIES = 20
"""Boxes drawn in a case before the one with the most valid cells is taken."""


@runtime_checkable
class PreparedCase(Protocol):
    """A case that is ready to be drawn from: ``StoredCase`` and ``StreamedCase`` are such."""

    @property
    def case(self) -> str:
        """Case identifier."""
        ...

    @property
    def group(self) -> str:
        """What splits may not tear apart."""
        ...

    @property
    def facts(self) -> CaseFacts | None:
        """What a table says about the case, such as its site, ``facts["site"]``; None without a table."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        ...

    @property
    def cells(self) -> Mapping[str, npt.NDArray[np.int32]]:
        """Some cells ``[n, d]`` of each class, and ``annotated`` where only part is annotated."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of all cells of each class, and of the annotated ones where that is known."""
        ...

    @property
    def n_valid(self) -> int:
        """Number of valid cells."""
        ...

    @property
    def annotated(self) -> npt.NDArray[np.bool_] | None:
        """Which outputs of a network its label annotates; None for all."""
        ...

    @property
    def observers(self) -> Observers | None:
        """Whose labels can be read too; None where patches take the joined one."""
        ...

    def valid_share(self, box: Box) -> float:
        """Share of valid cells in a box."""
        ...

    def read(self, box: Box | None = None, *, votes: Sequence[int] = ()) -> Sample:
        """The cells of a box, which may overhang the case; None reads all of it.

        ``votes`` are the numbers of observers whose labels are read too.
        """
        ...


@lru_cache(maxsize=8)
def _order(seed: int, turn: int, n_cases: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, 0, turn]).permutation(n_cases)


def draw_case(seed: int, position: int, n_cases: int) -> int:
    """Index of the case that feeds the ``position``-th patch of a training.

    Cases come in shuffled turns: each is drawn once before any is drawn again. (nnU-Net draws with
    replacement, which in short trainings leaves some cases out.)
    """
    turn, place = divmod(position, n_cases)
    return int(_order(seed, turn, n_cases)[place])


def is_forced(sample: int, batch_size: int, fraction: float) -> bool:
    """Whether this place of the batch must hold foreground: the last ``fraction`` of it (nnU-Net 4.9).

    Example:
        >>> [is_forced(i, 3, 0.33) for i in range(3)]
        [False, False, True]
    """
    return sample >= round(batch_size * (1 - fraction))


def _chosen_cells(
    rng: np.random.Generator, cells: Mapping[str, npt.NDArray[np.int32]], *, forced: bool
) -> npt.NDArray[np.int32] | None:
    """Cells on one of which the patch of ``draw_box`` centres; None if it may lie anywhere."""
    classes = sorted(name for name in cells if name != "annotated")
    if forced and classes:
        return cells[classes[rng.integers(len(classes))]]
    return cells.get("annotated")


def draw_box(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    cells: Mapping[str, npt.NDArray[np.int32]],
    *,
    forced: bool,
) -> Box:
    """Box of one patch in a case.

    A free patch lies uniformly inside the case (centred on axes where the case is smaller). A forced
    one picks a class uniformly among those present, then one of its stored cells, and centres on it
    as far as the case's border allows. Where only part of the case is annotated, free patches centre
    on an annotated cell.

    Args:
        rng: Only source of randomness.
        shape: Cells of the case on each axis.
        patch: Cells of the patch on each axis.
        cells: Foreground cells by class, as ``StoredCase.cells`` gives them.
        forced: Whether the patch must hold foreground; ignored for a case that has none.
    """
    chosen = _chosen_cells(rng, cells, forced=forced)
    low = [-((p - s) // 2) if p > s else 0 for s, p in zip(shape, patch, strict=True)]
    high = [low_ if p > s else s - p for low_, s, p in zip(low, shape, patch, strict=True)]
    if chosen is None:
        start = [int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]
    else:
        centre = chosen[rng.integers(len(chosen))]
        start = [int(min(max(c - p // 2, a), b)) for c, p, a, b in zip(centre, patch, low, high, strict=True)]
    return Box.at(start, patch)


def draw_valid_box(
    rng: np.random.Generator,
    case: PreparedCase,
    patch: Sequence[int],
    name: str | None,
    *,
    forced: bool,
    min_valid: float,
) -> Box:
    """Box of one patch in a case of which enough is valid.

    Boxes are drawn by ``draw_box`` from the one generator until ``min_valid`` of one is valid, at most
    ``TRIES`` times; then the first of those with the most valid cells is taken, so that a case of which
    little is valid still has its patches.

    Args:
        rng: Only source of randomness.
        case: Where the patch lies.
        patch: Its cells on each axis.
        name: Class that a forced patch must hold; None for any.
        forced: Whether the patch must hold foreground.
        min_valid: Share of its cells that must be valid; 0 asks nothing of the case.
    """
    cells = case.cells if name is None else {name: case.cells[name]}
    best = draw_box(rng, case.shape, patch, cells, forced=forced)
    if min_valid <= 0:
        return best
    most = case.valid_share(best)
    for _ in range(TRIES - 1):
        if most >= min_valid:
            break
        box = draw_box(rng, case.shape, patch, cells, forced=forced)
        share = case.valid_share(box)
        if share > most:
            best, most = box, share
    return best


def widen(box: Box, window: Sequence[int]) -> Box:
    """The box of shape ``window`` around the same centre; odd differences go to its end."""
    start = [a - (w - s) // 2 for a, s, w in zip(box.start, box.shape, window, strict=True)]
    return Box.at(start, window)
