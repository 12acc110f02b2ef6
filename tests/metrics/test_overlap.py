import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
