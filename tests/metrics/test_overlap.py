import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.labels import IGNORE, LabelTable
from medseg.metrics import overlap
from medseg.metrics.overlap import Counts

INDEX = hnp.arrays(np.int16, (4, 5), elements=st.integers(0, 2))


def test_worked_by_hand():
    n = Counts(tp=3, fp=1, fn=2)
    assert overlap.dice(n) == pytest.approx(6 / 9)
    assert overlap.iou(n) == pytest.approx(3 / 6)
    assert overlap.precision(n) == pytest.approx(3 / 4)
    assert overlap.recall(n) == pytest.approx(3 / 5)
    assert overlap.volume_error(n, (1.0, 2.0, 3.0)) == 6.0  # 4 predicted, 5 labelled, 6 mm3 each
    assert overlap.volume_error(Counts(3, 2, 1), (2.0, 2.0)) == 4.0


@pytest.mark.parametrize("metric", [overlap.dice, overlap.iou, overlap.precision, overlap.recall])
def test_undefined_is_nan(metric):
    assert math.isnan(metric(Counts(0, 0, 0)))


@given(INDEX, INDEX, hnp.arrays(bool, (4, 5)), st.sampled_from([(1,), (2,), (1, 2), (0, 2)]))
def test_counts_equal_masks(pred, label, counted, members):
    a, b = np.isin(pred, members) & counted, np.isin(label, members) & counted
    expected = Counts(int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()))
    assert overlap.counts(overlap.confusion(pred, label, counted, 3), members) == expected


def test_ignored_labels_may_hold_anything():
    pred, label = np.array([1, 1, 9]), np.array([1, -1, 1])
    table = overlap.confusion(pred, label, np.array([True, False, False]), 2)
    assert table.tolist() == [[0, 0], [0, 1]]


def test_2d_equals_3d_of_depth_one():
    rng = np.random.default_rng(0)
    pred, label = rng.integers(0, 3, (2, 6, 7))
    counted = rng.random((6, 7)) > 0.2
    flat = overlap.confusion(pred, label, counted, 3)
    deep = overlap.confusion(pred[None], label[None], counted[None], 3)
    assert flat.tolist() == deep.tolist()


def test_validation_scores_of_cases_and_of_all_cells() -> None:
    labels = LabelTable.declare({"background": 0, "road": 1, "river": 2})
    valid = np.ones(6, bool)
    first = overlap.tally(np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, IGNORE]), valid, labels)
    second = overlap.tally(
        np.array([1, 0, 0, 0, 2, 0]), np.array([1, 0, 0, 0, 0, 0]), valid & (np.arange(6) != 4), labels
    )
    assert first.sum() + second.sum() == 10, "one ignored, one invalid"
    by_case = overlap.validation_scores([first, second], labels, pooled=False)
    assert by_case["dice/road"] == pytest.approx((4 / 6 + 1) / 2)
    assert math.isnan(by_case["dice/river"])
    assert by_case["dice"] == by_case["dice/road"]
    pooled = overlap.validation_scores([first, second], labels, pooled=True)
    assert pooled["dice/road"] == pytest.approx(6 / 8)
    assert pooled["iou/road"] == pytest.approx(3 / 5)
    assert pooled["miou"] == pytest.approx((5 / 7 + 3 / 5) / 2)
    assert overlap.validation_scores([], labels, pooled=True)["dice"] == 0


@pytest.mark.parametrize("pooled", [False, True])
def test_names_of_validation_scores_are_their_keys(pooled: bool) -> None:
    labels = LabelTable.declare({"background": 0, "disc": 1, "bar": 2})
    scores = overlap.validation_scores([np.eye(3, dtype=np.int64)], labels, pooled=pooled)
    assert set(overlap.validation_names(labels, pooled=pooled)) == set(scores)
