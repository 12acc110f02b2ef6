"""What a worker does of an evaluation: the values of a pair of label files, and its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from medseg.errors import rename_keys
from medseg.evaluation.cells import CasePair, RasteriseOptions, read_pair, values_of
from medseg.evaluation.pairs import EvaluationPair
from medseg.labels import LabelTable
from medseg.labels.annotated import annotated_names, annotated_outputs, check_label
from medseg.metrics.accumulate import CaseScores

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
    """

    scores: Mapping[str, Any]
    reordered: tuple[str, ...]
    offset: float
    labelled: int
    unpredicted: int


def values_of_case(work: Work) -> set[int]:
    """The raw values that stand in the files of a case.

    Raises:
        InputError: Values that are not integral, or too many to be classes; shapes.
    """
    _, files = work
    return values_of(files.prediction) | values_of(files.label)


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
            pair = read_pair(files, self.table, self.tolerance, self.shapes)
        scores = CaseScores(self.table, **self.settings)
        place: Any = {"spacing": pair.grid.spacing, "unit": pair.grid.unit}
        scores.add(case, pair.pred, pair.label, pair.valid, annotated=self._annotated(case, files, pair), **place)
        return CaseResult(
            scores.stored(), tuple(map(str, pair.reordered)), pair.offset, pair.labelled, pair.unpredicted
        )

    def _annotated(self, case: str, files: EvaluationPair, pair: CasePair) -> Bool[np.ndarray, " k"] | None:
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
            check_label(pair.label, self.table, names, str(files.label))
        return annotated_outputs(self.table, names)
