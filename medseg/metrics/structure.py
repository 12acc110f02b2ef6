"""What a metric measures: one case, and each structure of it. Costly quantities are computed once and shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.labels import IGNORE, LabelTable
from medseg.labels.annotated import without_unknown
from medseg.metrics import boundary, overlap, roc, surface
from medseg.metrics.blocks import row_blocks
from medseg.metrics.overlap import Counts
from medseg.metrics.surface import SurfaceDistances

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class _Shared:
    """What is computed once for several metrics."""

    _shared: dict[Hashable, Any] = field(default_factory=dict, repr=False, kw_only=True)

    def shared(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        """A quantity that several metrics need, computed by the first one that asks for it.

        Args:
            key: Name of the quantity, with its settings.
            compute: Computes it.
        """
        if key not in self._shared:
            self._shared[key] = compute()
        value: _T = self._shared[key]
        return value


@dataclass(frozen=True, eq=False)
class CaseCells(_Shared):
    """The predicted and the labelled cells of one case.

    Attributes:
        name: Case identifier.
        pred: Training index of each cell, in [0, k).
        label: Training index of each cell, or ``IGNORE``.
        counted: False where a cell is ignored or invalid; such cells belong to no structure.
        spacing: Distance between cell centres along each axis.
        unit: Unit of the spacing: ``mm``, ``m`` or ``px``.
        labels: Meaning of the indices, and which structures are scored.
        prob: Probability of each class (with regions, of each region); None where there is none.
        annotated: Which classes (with regions, which regions) the label annotates; None for all. The others are not
            scored, and where the label has a background, predicted cells of them count as it.
    """

    name: str
    pred: Int[np.ndarray, " *s"]
    label: Int[np.ndarray, " *s"]
    counted: Bool[np.ndarray, " *s"]
    spacing: Sequence[float]
    unit: str
    labels: LabelTable
    prob: Float[np.ndarray, "k *s"] | None = None
    annotated: Bool[np.ndarray, " k"] | None = None

    @classmethod
    def from_arrays(
        cls,
        name: str,
        pred: Int[np.ndarray, " *s"],
        label: Int[np.ndarray, " *s"],
        valid: Bool[np.ndarray, " *s"],
        *,
        spacing: Sequence[float],
        unit: str,
        labels: LabelTable,
        prob: Float[np.ndarray, "k *s"] | None = None,
        annotated: Bool[np.ndarray, " k"] | None = None,
    ) -> CaseCells:
        """Check the prediction and drop what does not count.

        Args:
            name: Case identifier.
            pred: Training index of each cell, in [0, k); anything where the cell is not valid.
            label: Training index of each cell, or ``IGNORE``; anything where the cell is not valid.
            valid: False where a cell does not count.
            spacing: See the attributes.
            unit: See the attributes.
            labels: See the attributes.
            prob: See the attributes.
            annotated: See the attributes.

        Raises:
            ValueError: A predicted index outside [0, k), which is a defect of the caller.
        """
        pred = np.where(valid, pred, 0)
        if pred.min(initial=0) < 0 or pred.max(initial=0) >= labels.n_classes:
            raise ValueError(f"{name}: predicted indices must lie in [0, {labels.n_classes}), got {np.unique(pred)}")
        if annotated is not None:
            label = without_unknown(np.where(valid, label, IGNORE), labels, annotated)
            pred = without_unknown(pred, labels, annotated, predicted=True)
        counted = valid & (label != IGNORE)
        return cls(name, pred, label, counted, tuple(spacing), unit, labels, prob, annotated)

    def annotates(self, output: int) -> bool:
        """Whether the label annotates an output of the network: a class, or of a table with regions a region."""
        return self.annotated is None or bool(self.annotated[output])

    @cached_property
    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Cells by labelled (row) and predicted (column) class."""
        return overlap.confusion(self.pred, self.label, self.counted, self.labels.n_classes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.pred.ndim

    @property
    def diagonal(self) -> float:
        """Length of the diagonal of the grid, the largest distance possible."""
        sides = [cells * step for cells, step in zip(self.pred.shape, self.spacing, strict=True)]
        return math.dist((0,) * len(sides), sides)

    def structures(self) -> Iterator[Structure]:
        """The scored structures, one after the other: the masks of one are freed before the next."""
        for position, (name, members) in enumerate(self.labels.targets):
            yield Structure(self, name, tuple(members), position)


@dataclass(frozen=True, eq=False)
class Structure(_Shared):
    """One structure (a class or a region) of one case. Each quantity is computed when a metric first asks for it.

    Attributes:
        case: The case.
        name: Name of the class or region.
        members: Training indices of its classes; confusing them with each other is no error.
        position: Place among ``LabelTable.targets``.
    """

    case: CaseCells
    name: str
    members: tuple[int, ...]
    position: int

    @property
    def output(self) -> int:
        """Which output of the network it is."""
        return self.position if self.case.labels.regions else self.members[0]

    @property
    def is_annotated(self) -> bool:
        """Whether the label says anything about it."""
        return self.case.annotates(self.output)

    @cached_property
    def counts(self) -> Counts:
        """True and false positives and negatives, in cells."""
        return overlap.counts(self.case.confusion, self.members)

    @cached_property
    def is_labelled(self) -> bool:
        """Whether the label has a cell of it."""
        return self.counts.tp + self.counts.fn > 0

    @cached_property
    def is_predicted(self) -> bool:
        """Whether the prediction has a cell of it."""
        return self.counts.tp + self.counts.fp > 0

    @cached_property
    def pred(self) -> Bool[np.ndarray, " *s"]:
        """Its predicted cells; false where a cell does not count."""
        return _is_one_of(self.case.pred, self.members, self.case.counted)

    @cached_property
    def label(self) -> Bool[np.ndarray, " *s"]:
        """Its labelled cells; false where a cell does not count."""
        return _is_one_of(self.case.label, self.members, self.case.counted)

    @property
    def cell_volume(self) -> float:
        """Volume (in 2D, area) of a cell, in the unit of the spacing to the power of d."""
        return float(np.prod(self.case.spacing))

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the two surfaces, in the unit of the spacing."""
        return surface.surface_distances(self.pred, self.label, self.case.spacing)

    def boundary_counts(self, width: float) -> tuple[int, int]:
        """Cells in both contour bands, and cells in either.

        Args:
            width: Width of the bands; see ``boundary.cells_of``.
        """
        cells = boundary.cells_of(width, self.case.pred.shape)
        return self.shared(("boundary_counts", cells), lambda: boundary.boundary_counts(self.pred, self.label, cells))

    @cached_property
    def score_histogram(self) -> Int[np.ndarray, "2 bins"]:
        """Counted cells outside it and inside it by the log-odds of its probability; see ``roc.score_histogram``.

        Raises:
            ValueError: The case has no probabilities.
        """
        case, total = self.case, np.zeros((2, roc.BINS), dtype=np.int64)
        if case.prob is None:
            raise ValueError(f"{case.name}: got no probabilities, which a metric needs")
        prob = case.prob[self.output]
        for rows in row_blocks(prob.shape):
            inside = np.isin(case.label[rows], self.members)
            total += roc.score_histogram(prob[rows], inside, case.counted[rows])
        return total


def _is_one_of(
    cells: Int[np.ndarray, " *s"], members: Sequence[int], counted: Bool[np.ndarray, " *s"]
) -> Bool[np.ndarray, " *s"]:
    """Counted cells of certain classes; ``np.isin`` would take eight bytes a cell on the way."""
    mask = np.zeros(cells.shape, dtype=bool)
    for member in members:
        mask |= cells == member
    mask &= counted
    return mask
