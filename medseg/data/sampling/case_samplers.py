"""Which case feeds a patch: a class for each option of ``sampling``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medseg.data.sampling.patches import PreparedCase, draw_case
from medseg.errors import InputError


class CaseSampler(ABC):
    """Chooses the case of each patch.

    Subclasses take ``(cases, *, seed, labelled=True, <settings>)``; their yaml stands in ``conf/sampling``, where
    ``_target_`` names the class, and settings are keys next to those of ``Sampling``.

    Args:
        cases: Cases of the training.
        seed: Seed of the whole training.
        labelled: Whether only annotated cells are of use; not in pretraining.
    """

    @abstractmethod
    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """Index of the case, and the class that the patch must hold.

        Args:
            rng: Random generator of this patch.
            position: Number of the patch in the whole training.
            forced: Whether the patch must hold foreground.

        Returns:
            The class is None where the patch is free, or where any class of the case will do.
        """


class ByCase(CaseSampler):
    """Cases in shuffled turns (``draw_case``), whatever their size; their numbers of cells are not read."""

    def __init__(self, cases: Sequence[PreparedCase], *, seed: int, labelled: bool = True) -> None:
        del labelled
        self.n_cases, self.seed = len(cases), seed

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``CaseSampler`` says; ``rng`` is not used."""
        return draw_case(self.seed, position, self.n_cases), None


class ByArea(CaseSampler):
    """A case in proportion to its number of valid cells, so that patches spread evenly over the ground.

    Where only part of a case is annotated, the annotated cells count. A case without any is never drawn.
    Without labels, the valid ones do.

    Raises:
        InputError: No case has such a cell.
    """

    def __init__(self, cases: Sequence[PreparedCase], *, seed: int, labelled: bool = True) -> None:
        del seed
        self.total = np.cumsum(_areas(cases, labelled=labelled))

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``CaseSampler`` says."""
        return _pick(rng, self.total), None


class ByGroup(CaseSampler):
    """Groups in shuffled turns (``draw_case``), and of each a case as ``ByArea`` draws it.

    Raises:
        InputError: No case has a cell that may be drawn.
    """

    def __init__(self, cases: Sequence[PreparedCase], *, seed: int, labelled: bool = True) -> None:
        members: dict[str, list[int]] = {}
        areas = _areas(cases, labelled=labelled)
        for index, case in enumerate(cases):
            if areas[index]:
                members.setdefault(case.group, []).append(index)
        self.members = [members[name] for name in sorted(members)]
        self.totals = [np.cumsum([areas[i] for i in group]) for group in self.members]
        self.seed = seed

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``CaseSampler`` says."""
        group = draw_case(self.seed, position, len(self.members))
        return self.members[group][_pick(rng, self.totals[group])], None


class ByClass(CaseSampler):
    r"""A forced patch draws a class, rare ones first, and then a case that holds it; others as ``ByArea``.

    Class k is drawn with the probability :math:`f_k^{-\alpha} / \sum_j f_j^{-\alpha}`, where f is its
    number of cells in all cases and alpha = ``class_balance_exponent``; the case, in proportion to its cells of the
    class. With alpha 1, each cell of a class ten times as rare is drawn a hundred times as often; with 0.5, about
    32 times; with 0, classes are equally likely and it is ten times. Classes that no case holds are not
    drawn; if there are none at all, every patch is free. Without labels, cases come as ``ByCase`` draws them.

    Args:
        cases: See ``CaseSampler``.
        seed: See ``CaseSampler``.
        labelled: See ``CaseSampler``.
        class_balance_exponent: Alpha, at least 0.

    Raises:
        InputError: A negative exponent, or no case with a cell that may be drawn.
    """

    def __init__(
        self, cases: Sequence[PreparedCase], *, seed: int, labelled: bool = True, class_balance_exponent: float = 0.5
    ) -> None:
        if not class_balance_exponent >= 0:
            raise InputError(
                f"sampling: got class_balance_exponent {class_balance_exponent}, expected 0 (classes equally likely) "
                "or more, such as 0.5"
            )
        self.free = ByArea(cases, seed=seed) if labelled else ByCase(cases, seed=seed)
        counts = {name: np.array([case.counts.get(name, 0) for case in cases]) for name in _classes(cases, labelled)}
        self.totals = {name: np.cumsum(count) for name, count in counts.items() if count.any()}
        weight = np.array([float(total[-1]) for total in self.totals.values()]) ** -class_balance_exponent
        self.share = np.cumsum(weight) / weight.sum()

    def choose(self, rng: np.random.Generator, position: int, *, forced: bool) -> tuple[int, str | None]:
        """As ``CaseSampler`` says."""
        if not forced or not self.totals:
            return self.free.choose(rng, position, forced=forced)
        drawn = int(np.searchsorted(self.share[:-1], rng.random(), side="right"))
        name = list(self.totals)[drawn]
        return _pick(rng, self.totals[name]), name


@dataclass(frozen=True)
class Sampling:
    """How the patches of a training are drawn.

    Attributes:
        sampler: Class of the ``CaseSampler``, or that class with its settings (a ``partial``).
        foreground_fraction: Fraction of each batch that must hold foreground, in [0, 1].
        min_valid: Least fraction of valid cells of a patch, in [0, 1]; see ``draw_valid_box``.
        labelled: Whether labels are read; see ``CaseSampler``.

    Raises:
        InputError: A fraction out of range.
    """

    sampler: Callable[..., CaseSampler] = ByCase
    foreground_fraction: float = 0.33
    min_valid: float = 0.0
    labelled: bool = True

    def __post_init__(self) -> None:
        for key in ("foreground_fraction", "min_valid"):
            value = getattr(self, key)
            if not 0 <= value <= 1:
                raise InputError(f"sampling: got {key} {value}, expected a fraction from 0 to 1, such as 0.5")

    def case_sampler(self, cases: Sequence[PreparedCase], seed: int) -> CaseSampler:
        """The sampler of these cases.

        Raises:
            InputError: See the class of the sampler.
        """
        return self.sampler(cases, seed=seed, labelled=self.labelled)


def _areas(cases: Sequence[PreparedCase], *, labelled: bool) -> list[int]:
    """Cells of each case that may be drawn: the annotated ones, or without labels the valid ones.

    Raises:
        InputError: There is none.
    """
    areas = [int(case.counts.get("annotated", case.n_valid) if labelled else case.n_valid) for case in cases]
    if not any(areas):
        raise InputError(
            f"sampling: none of the {len(cases)} training cases has a valid, labelled cell; check nodata, validity "
            "masks and ignored label values"
        )
    return areas


def _classes(cases: Sequence[PreparedCase], labelled: bool) -> list[str]:
    return sorted({name for case in cases for name in case.counts} - {"annotated"}) if labelled else []


def _pick(rng: np.random.Generator, total: np.ndarray) -> int:
    """Index i with a probability of exactly its share, ``total`` being cumulative sums of integers."""
    return int(np.searchsorted(total, rng.integers(int(total[-1])), side="right"))
