from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.data.dataset import Case
from medseg.evaluation.predictor import evaluate_predictor
from medseg.geometry.grid import PIXEL, Grid
from medseg.inference.predictor import Predictor
from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.sample import Sample
from tests.metric_lists import SCENE_METRICS

TABLE = LabelTable.declare({"background": 0, "burned": 1})
LABEL = np.array([[0, 1, 1], [0, 1, 1]], np.int16)


def sample(case: Case) -> Sample:
    """A scene that the predictor copies, wrong in its last column, which is not valid in the scene ``b``."""
    image = LABEL[None].astype(np.float32)
    image[..., -1] = 0
    valid = np.ones(LABEL.shape, bool)
    valid[:, -1] = case.id != "b"
    return Sample(image, LABEL, valid, Grid.regular(LABEL.shape, (1, 1), PIXEL), case.id, case.group)


class Copying(Predictor):
    def __init__(self) -> None:
        self.index = lambda sample: sample.image[0].astype(np.int16)  # type: ignore[method-assign]

    def index_and_prob(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        burned = np.array([[0.2, 0.7, 0.1], [0.3, 0.6, 0.9]], np.float32)
        return self.index(sample), np.stack([1 - burned, burned])


def test_invalid_cells_of_a_scene_do_not_count() -> None:
    cases = [Case(name, (Path(name),), Path(name), name) for name in "abc"]
    scores = CaseScores(TABLE, metrics=SCENE_METRICS, pooled=True)
    seen: list[Any] = []

    def watch(all_cases: Sequence[Case]) -> Sequence[Case]:
        seen.extend(all_cases)
        return all_cases

    shown = evaluate_predictor(Copying(), cases, sample, scores, shown=2, watch=watch)
    assert [s.case for s, _ in shown] == ["a", "c"]
    assert seen == cases
    result = scores.result()
    assert result["confusion"]["matrix"] == [[6, 0], [4, 6]]
    assert result["classes"]["burned"]["iou"]["mean"] == pytest.approx(6 / 10)
    by_case = {row["case"]: row["iou"] for row in result["cases"] if "iou" in row}
    assert by_case == {"a": 0.5, "b": 1.0, "c": 0.5}


def test_probabilities_are_scored_where_they_are_asked_for() -> None:
    scores = CaseScores(TABLE, metrics=("iou", "auc"), pooled=True)
    evaluate_predictor(Copying(), [Case(name, (Path(name),), Path(name), name) for name in "ab"], sample, scores)
    by_case = {row["case"]: row["auc"] for row in scores.result()["cases"]}
    # outside 0.2 and 0.3; inside 0.7, 0.1, 0.6 and 0.9, of which the scene b has 0.7 and 0.6
    assert by_case == {"a": pytest.approx(6 / 8), "b": 1.0}
    assert scores.result()["classes"]["burned"]["auc"]["mean"] == pytest.approx((6 * 2 + 4 * 2) / (6 * 4))
