"""A metric as one object: its name and unit, its value, the costs of missing structures, how it pools, its title."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from medseg.labels import LabelTable
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import DIAGONAL, EmptyPolicy
from medseg.metrics.structure import CaseCells, Structure


class Unit(Enum):
    """How the unit of the grid enters the unit of a metric."""

    NONE = "none"
    LENGTH = "length"
    VOLUME = "volume"


@dataclass(frozen=True)
class Metric(ABC):
    """What can be scored: a frozen object with the settings of the metric as its fields.

    A metric of one's own is a subclass of ``ClassMetric``, ``CountMetric`` or ``CaseMetric``, which ``metrics:`` of
    the configuration names by its class path. Those of the package are found by their ``name``.

    Attributes:
        name: Name in the configuration; the key in ``metrics.json`` is ``key``, the name with its unit.
        title: Name as people write it.
        description: One line: what it is, and its formula.
        unit: How the unit of the grid enters its unit.
        range: Smallest and largest value.
        larger_is_better: Whether a larger value is better; None where the best value is 0, of a signed error.
        needs_prob: Whether it needs probabilities. A training keeps every class's probability of a case for them;
            label files have none.
        lengths: Settings that are lengths in the unit of the grid, for reports.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    unit: ClassVar[Unit] = Unit.NONE
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    larger_is_better: ClassVar[bool | None] = True
    needs_prob: ClassVar[bool] = False
    lengths: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def measure(self, measured: Any) -> float:
        """The value of one structure (``ClassMetric``), or of one case (``CaseMetric``)."""

    def check(self) -> None:  # noqa: B027  what most metrics have nothing to say to
        """Raise an InputError if the metric can't be measured here, such as without an optional package."""

    def key(self, unit: str, ndim: int) -> str:
        """Name in rows and files, with the unit where there is one, such as ``hd95_mm`` or ``volume_error_mm3``.

        Args:
            unit: Unit of the grid: ``mm``, ``m`` or ``px``.
            ndim: Number of axes of the grid.
        """
        return self.name + {Unit.NONE: "", Unit.LENGTH: f"_{unit}", Unit.VOLUME: f"_{unit}{ndim}"}[self.unit]

    def badness(self, values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Values of the metric, or of one like it, as numbers of which smaller ones are better."""
        if self.larger_is_better is None:
            return np.abs(values)
        return -values if self.larger_is_better else values

    def stated(self, labels: LabelTable) -> dict[str, object] | str:
        """What ``policy`` of ``metrics.json`` says of it: costs and settings, or a sentence; JSON-able.

        Args:
            labels: Names what is scored.
        """
        return self.description

    @property
    def ranks_cases(self) -> bool:
        """Whether cases can be ranked and plotted by it: each class has a value in [0, 1], and larger is better."""
        return False


class ClassMetric(Metric):
    """A metric with one value for each structure of a case.

    Attributes:
        empty: Costs of a missed and of a false structure; None: ``measure`` is asked about these too, and
            ``description`` says what it does.
    """

    empty: ClassVar[EmptyPolicy | None]

    @abstractmethod
    def measure(self, measured: Structure) -> float:
        """The value of a structure that both label and prediction have (any structure if ``empty`` is None)."""

    def score(self, structure: Structure) -> float:
        """The value of a structure, or its cost; NaN where label and prediction lack it."""
        if self.empty is None or (structure.is_labelled and structure.is_predicted):
            return self.measure(structure)
        return self.empty.cost(structure) if structure.is_labelled or structure.is_predicted else math.nan

    def stated(self, labels: LabelTable) -> dict[str, object] | str:
        """Costs and settings, or the description where there are no costs."""
        return self.description if self.empty is None else self.empty.stated() | asdict(self)

    @property
    def ranks_cases(self) -> bool:
        """Whether it lies in [0, 1], and larger is better."""
        return self.range == (0.0, 1.0) and self.larger_is_better is True


class DistanceMetric(ClassMetric):
    """A metric that is a distance between surfaces: in the unit of the grid, smaller is better.

    A missed and a false structure cost the diagonal of the case's grid.
    """

    unit = Unit.LENGTH
    range = (0.0, math.inf)
    larger_is_better = False
    empty = EmptyPolicy(DIAGONAL, DIAGONAL)


class CaseMetric(Metric):
    """A metric with one value for a case as a whole."""

    @abstractmethod
    def measure(self, measured: CaseCells) -> float:
        """The value of a case; NaN if it has none."""


class Pooled(Metric):
    """A metric from numbers that add up over cases, so that the cells of all cases can be scored together.

    It is a ``ClassMetric`` or a ``CaseMetric`` as well.

    Attributes:
        counts_classes: Whether the pooled value is a mean over classes, of which the summary states the number.
    """

    counts_classes: ClassVar[bool] = True

    @abstractmethod
    def parts(self, measured: Any) -> Real[np.ndarray, "*q"]:
        """What adds up: numbers of a structure (``ClassMetric``), or a row for each group (``CaseMetric``)."""

    @abstractmethod
    def from_parts(self, parts: Real[np.ndarray, "*n q"]) -> Float[np.ndarray, "*n"]:
        """The values from such numbers, or from their sums over cases; NaN where there is no value."""

    @property
    def has_detail(self) -> bool:
        """Whether ``details`` of ``metrics.json`` has a table of it, for which the parts are kept in any case."""
        return False

    def detail(self, parts: Real[np.ndarray, "*q"]) -> list[dict[str, object]]:
        """Rows of that table of one structure or group, from the sum of the parts of all cases; JSON-able."""
        return []

    def present(self, parts: Real[np.ndarray, "n g *q"]) -> Bool[np.ndarray, "n g"]:
        """Which cases have something to say of which group."""
        return ~np.isnan(self.from_parts(parts))

    def resampled(
        self, draws: Float[np.ndarray, "r n"], parts: Float[np.ndarray, "n g *q"]
    ) -> Float[np.ndarray, "r g"]:
        """The value of each group when case i is taken ``draws[r, i]`` times."""
        return self.from_parts(np.tensordot(draws, parts, axes=1))


class CountMetric(ClassMetric, Pooled):
    """A metric of a structure that follows from its counts of cells; its costs are numbers.

    Example:
        >>> from medseg.metrics.policy import WORST_0
        >>> class Jaccard(CountMetric):
        ...     name, title, description = "jaccard", "Jaccard", "intersection over union"
        ...     empty = WORST_0
        ...     def value(self, n):
        ...         return ratio(n.tp, n.tp + n.fp + n.fn)
        >>> Jaccard().value(Counts(tp=1, fp=2, fn=1, tn=0))
        0.25
    """

    empty: ClassVar[EmptyPolicy]

    @abstractmethod
    def value(self, n: Counts) -> Any:
        """The value from numbers, or from arrays of numbers; NaN where the formula has none (see ``ratio``)."""

    def measure(self, measured: Structure) -> float:
        """The value from the counts of the structure."""
        return float(self.value(measured.counts))

    def parts(self, measured: Structure) -> Int[np.ndarray, "4"]:
        """The four counts."""
        return np.array(measured.counts, dtype=np.int64)

    def from_parts(self, parts: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
        """The values; the costs where all cases together miss a structure or have a false one."""
        n = Counts(*np.moveaxis(parts, -1, 0))
        unlabelled, unpredicted = n.tp + n.fn == 0, n.tp + n.fp == 0
        costs = (math.nan, float(self.empty.missed), float(self.empty.false))  # type: ignore[arg-type]
        return np.select((unlabelled & unpredicted, unpredicted, unlabelled), costs, self.value(n))


def setting(default: object, key: str) -> Any:
    """A field of a metric of the package that has a key of its own in the configuration, such as ``nsd_tolerance``.

    Args:
        default: Its value if the key is not given.
        key: The key; metrics that have it in common have one setting in common.
    """
    return field(default=default, metadata={"key": key})


def ratio(part: Any, whole: Any) -> Any:
    """``part / whole`` of numbers or arrays; NaN where the whole is 0.

    Example:
        >>> ratio(1, 4), ratio(0, 0), ratio(np.array([1, 0]), np.array([2, 0])).tolist()
        (0.25, nan, [0.5, nan])
    """
    if isinstance(whole, np.ndarray):
        return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
    return part / whole if whole else math.nan
