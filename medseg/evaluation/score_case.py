"""What a worker does of an evaluation: the values of a pair of label files, and its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from medseg.errors import rename_keys
from medseg.evaluation.cells import RasteriseOptions, values_of
from medseg.evaluation.observers import read_observed
from medseg.evaluation.pairs import EvaluationPair
from medseg.labels import LabelTable
from medseg.labels.annotated import annotated_names, annotated_outputs, check_label
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.observers import ObserverScores

Work = tuple[str, EvaluationPair]
"""A case and its files."""
_ADD_IN_TRAINING = "add them to data.labels, or to its ignore list"
_ADD_HERE = "add them to names: as a class of their own, to the background (background: [0, 5]), or as ignore: 5"


@dataclass(frozen=True)
class CaseResult:
    """What is found of one case.

    Attributes:
        scores: ``CaseScores.stored`` of this case alone.
        reordered: Files that are stored in another order of axes than the label.
        offset: Largest displacement of the grids of the files, in cells.
        labelled: Number of cells in the field of view that have a label.
        unpredicted: How many of these have no prediction.
        observers: ``ObserverScores.stored`` of this case alone, where several observers have labelled it.
    """

    scores: Mapping[str, Any]
    reordered: tuple[str, ...]
    offset: float
    labelled: int
    unpredicted: int
    observers: Mapping[str, Any] | None = None


def values_of_case(work: Work) -> set[int]:
    """The raw values that stand in the files of a case.

    Raises:
        InputError: Values that are not integral, or too many to be classes; shapes.
    """
    _, files = work
    labels = [path for _, path in files.observers] or [files.label]
    return values_of(files.prediction).union(*map(values_of, labels))


@dataclass(frozen=True)
class ScoreCase:
    """Scores cases.

    Attributes:
        table: Meaning of the values, raw and saved.
        settings: Settings of ``CaseScores``.
        tolerance: Largest displacement between the grids, in cells.
        shapes: How labels that are vectors are read.
    """

    table: LabelTable
    settings: Mapping[str, Any]
    tolerance: float
    shapes: RasteriseOptions

    def __call__(self, work: Work) -> CaseResult:
        """Score a case.

        Raises:
            InputError: Other grids, or values outside the table.
        """
        case, files = work
        with rename_keys((_ADD_IN_TRAINING, _ADD_HERE), ("data.labels", "names")):
            pair, votes = read_observed(files, self.table, self.tolerance, self.shapes)
        scores = CaseScores(self.table, **self.settings)
        annotated = self._annotated(case, files, votes.values() or [pair.label])
        place: Any = {"spacing": pair.grid.spacing, "unit": pair.grid.unit, "annotated": annotated}
        scores.add(case, pair.pred, pair.label, pair.valid, **place)
        observers = ObserverScores(scores)
        if votes:
            observers.add(case, pair.pred, votes, pair.valid, **place)
        return CaseResult(
            scores.stored(),
            tuple(map(str, pair.reordered)),
            pair.offset,
            pair.labelled,
            pair.unpredicted,
            observers.stored() if votes else None,
        )

    def _annotated(
        self, case: str, files: EvaluationPair, labels: Iterable[Int[np.ndarray, " *s"]]
    ) -> Bool[np.ndarray, " k"] | None:
        """Which classes or regions the label annotates; None for all.

        Raises:
            InputError: A name that the table lacks, or a label with cells of another class.
        """
        if files.annotated is None:
            return None
        names = annotated_names(self.table, files.annotated, f"annotated: case {case}")
        if names is None:
            return None
        with rename_keys(("data.annotated", "annotated")):
            for label in labels:
                check_label(label, self.table, names, str(files.label))
        return annotated_outputs(self.table, names)
