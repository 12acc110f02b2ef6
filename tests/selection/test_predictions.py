"""Scores of candidates for a case that does not annotate every class."""

from typing import Any

import numpy as np

from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable
from medseg.selection.predictions import CaseData, Scorer

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})


def test_a_candidate_is_scored_for_the_classes_that_a_case_annotates() -> None:
    label, pred = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 2, 0]])
    grid = Grid((1, 4), np.eye(3), PIXEL)
    case: dict[str, Any] = {"name": "x", "label": label, "valid": np.ones((1, 4), bool), "grid": grid}
    scorer = Scorer("dice", TABLE)
    assert scorer(pred, CaseData(**case)) == {"a": 2 / 3, "b": 0.0}
    assert scorer(pred, CaseData(**case, annotated=np.array([True, True, False]))) == {"a": 2 / 3}
