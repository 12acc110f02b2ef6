"""Which patch is drawn: a function of (seed, step, sample), never of state or of worker count."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from medseg.errors import InputError
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

    def valid_share(self, box: Box) -> float:
        """Share of valid cells in a box."""
        ...

    def read(self, box: Box | None = None) -> Sample:
        """The cells of a box, which may overhang the case; None reads all of it."""
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


def is_forced(sample: int, batch_size: int, share: float) -> bool:
    """Whether this place of the batch must hold foreground: the last ``share`` of it (nnU-Net 4.9).

    Example:
        >>> [is_forced(i, 3, 0.33) for i in range(3)]
        [False, False, True]
    """
    return sample >= round(batch_size * (1 - share))


class Chooser(ABC):
    """Chooses the case of each patch."""

    @abstractmethod
    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """Index of the case, and the class that the patch must hold.

        Args:
            rng: Of this patch.
            position: Number of the patch in the whole training.
            forced: Whether the patch must hold foreground.

        Returns:
            The class is None where the patch is free, or where any class of the case will do.
        """


class ByCase(Chooser):
    """Cases in shuffled turns (``draw_case``), whatever their size."""

    def __init__(self, n_cases: int, seed: int) -> None:
        self.n_cases, self.seed = n_cases, seed

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``Chooser`` says; ``rng`` is not used."""
        return draw_case(self.seed, position, self.n_cases), None


class ByArea(Chooser):
    """A case in proportion to its number of valid cells, so that patches spread evenly over the ground.

    Where only part of a case is annotated, the annotated cells count. A case without any is never drawn.
    Without labels, the valid ones do.
    """

    def __init__(self, cases: Sequence[PreparedCase], *, labelled: bool = True) -> None:
        self.total = np.cumsum(_areas(cases, labelled=labelled))

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``Chooser`` says."""
        return _pick(rng, self.total), None


class ByGroup(Chooser):
    """Groups in shuffled turns (``draw_case``), and of each a case as ``ByArea`` draws it."""

    def __init__(self, cases: Sequence[PreparedCase], seed: int, *, labelled: bool = True) -> None:
        members: dict[str, list[int]] = {}
        areas = _areas(cases, labelled=labelled)
        for index, case in enumerate(cases):
            if areas[index]:
                members.setdefault(case.group, []).append(index)
        self.members = [members[name] for name in sorted(members)]
        self.totals = [np.cumsum([areas[i] for i in group]) for group in self.members]
        self.seed = seed

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``Chooser`` says."""
        group = draw_case(self.seed, position, len(self.members))
        return self.members[group][_pick(rng, self.totals[group])], None


class ByClass(Chooser):
    r"""A forced patch draws a class, rare ones first, and then a case that holds it; others as ``ByArea``.

    Class k is drawn with the probability :math:`f_k^{-\alpha} / \sum_j f_j^{-\alpha}`, where f is its
    number of cells in all cases and alpha = ``rarity``; the case, in proportion to its cells of the class.
    With alpha 1, each cell of a class ten times as rare is drawn a hundred times as often; with 0.5, about
    32 times; with 0, classes are equally likely and it is ten times. Classes that no case holds are not
    drawn; if there are none at all, every patch is free.
    """

    def __init__(self, cases: Sequence[PreparedCase], rarity: float) -> None:
        self.free = ByArea(cases)
        counts = {name: np.array([case.counts.get(name, 0) for case in cases]) for name in _classes(cases)}
        self.totals = {name: np.cumsum(count) for name, count in counts.items() if count.any()}
        weight = np.array([float(total[-1]) for total in self.totals.values()]) ** -rarity
        self.share = np.cumsum(weight) / weight.sum()

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``Chooser`` says."""
        if not forced or not self.totals:
            return self.free.choose(rng, position, forced=forced)
        drawn = int(np.searchsorted(self.share[:-1], rng.random(), side="right"))
        name = list(self.totals)[drawn]
        return _pick(rng, self.totals[name]), name


def chooser(
    strategy: str, cases: Sequence[PreparedCase], *, seed: int, rarity: float = 0.5, labelled: bool = True
) -> Chooser:
    """The chooser of a strategy.

    Args:
        strategy: ``case`` (in turns, as for volumes), ``area``, ``class`` or ``group``.
        cases: Of the training; only ``case`` leaves their numbers of cells unread.
        seed: Of the whole training; orders the turns.
        rarity: Exponent of ``class``, at least 0.
        labelled: Whether only annotated cells are of use; not in pretraining.

    Raises:
        InputError: Another strategy, a negative exponent, or cases without a single valid cell.
    """
    if strategy not in ("case", "area", "class", "group"):
        raise InputError(f"sampling: got strategy {strategy!r}, choose case, area, class or group")
    if strategy == "case":
        return ByCase(len(cases), seed)
    if not rarity >= 0:
        raise InputError(f"sampling: got rarity {rarity}, expected 0 (classes equally likely) or more, such as 0.5")
    if not any(_areas(cases, labelled=labelled)):
        raise InputError(
            f"sampling: none of the {len(cases)} training cases has a valid, labelled cell; check nodata, validity "
            "masks and ignored label values"
        )
    if strategy == "area":
        return ByArea(cases, labelled=labelled)
    return ByGroup(cases, seed, labelled=labelled) if strategy == "group" else ByClass(cases, rarity)


def _areas(cases: Sequence[PreparedCase], *, labelled: bool) -> list[int]:
    """Cells of each case that may be drawn: the annotated ones, or without labels the valid ones."""
    return [int(case.counts.get("annotated", case.n_valid) if labelled else case.n_valid) for case in cases]


def _classes(cases: Sequence[PreparedCase]) -> list[str]:
    return sorted({name for case in cases for name in case.counts} - {"annotated"})


def _pick(rng: np.random.Generator, total: npt.NDArray[Any]) -> int:
    """Index i with a probability of exactly its share, ``total`` being cumulative sums of integers."""
    return int(np.searchsorted(total, rng.integers(int(total[-1])), side="right"))


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
    classes = sorted(name for name in cells if name != "annotated")
    if forced and classes:
        chosen = cells[classes[rng.integers(len(classes))]]
    elif "annotated" in cells:
        chosen = cells["annotated"]
    else:
        chosen = None
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
