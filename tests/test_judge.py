from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.data.cases import Case
from medseg.geometry.grid import PIXEL, Grid
from medseg.inference.predictor import Predictor
from medseg.judge import judge
from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.score import SCENE_METRICS
from medseg.sample import Sample

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


def test_invalid_cells_of_a_scene_do_not_count() -> None:
    cases = [Case(name, (Path(name),), Path(name), name) for name in "abc"]
    scores = CaseScores(TABLE, metrics=SCENE_METRICS, pooled=True)
    seen: list[Any] = []
    shown = judge(Copying(), cases, sample, scores, shown=2, watch=lambda all_: [seen.append(c) or c for c in all_])
    assert [s.case for s, _ in shown] == ["a", "c"]
    assert seen == cases
    result = scores.result()
    assert result["confusion"]["matrix"] == [[6, 0], [4, 6]]
    assert result["classes"]["burned"]["iou"]["mean"] == pytest.approx(6 / 10)
    by_case = {row["case"]: row["iou"] for row in result["cases"] if "iou" in row}
    assert by_case == {"a": 0.5, "b": 1.0, "c": 0.5}
