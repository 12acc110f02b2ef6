import math

import numpy as np
import pytest

from medseg.labels import IGNORE, LabelTable
from medseg.metrics import overlap, validation


def test_validation_scores_of_cases_and_of_all_cells() -> None:
    labels = LabelTable.declare({"background": 0, "road": 1, "river": 2})
    valid = np.ones(6, bool)
    first = overlap.confusion_matrix(np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, IGNORE]), valid, labels)
    second = overlap.confusion_matrix(
        np.array([1, 0, 0, 0, 2, 0]), np.array([1, 0, 0, 0, 0, 0]), valid & (np.arange(6) != 4), labels
    )
    assert first.sum() + second.sum() == 10, "one ignored, one invalid"
    by_case = validation.validation_scores([first, second], labels, pooled=False)
    assert by_case["dice/road"] == pytest.approx((4 / 6 + 1) / 2)
    assert math.isnan(by_case["dice/river"])
    assert by_case["dice"] == by_case["dice/road"]
    pooled = validation.validation_scores([first, second], labels, pooled=True)
    assert pooled["dice/road"] == pytest.approx(6 / 8)
    assert pooled["iou/road"] == pytest.approx(3 / 5)
    assert pooled["miou"] == pytest.approx((5 / 7 + 3 / 5) / 2)
    assert validation.validation_scores([], labels, pooled=True)["dice"] == 0


@pytest.mark.parametrize("pooled", [False, True])
def test_names_of_validation_scores_are_their_keys(pooled: bool) -> None:
    labels = LabelTable.declare({"background": 0, "disc": 1, "bar": 2})
    scores = validation.validation_scores([np.eye(3, dtype=np.int64)], labels, pooled=pooled)
    assert set(validation.validation_names(labels, pooled=pooled)) == set(scores)
