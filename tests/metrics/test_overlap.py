import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.metrics import overlap
from medseg.metrics.dice import Dice
from medseg.metrics.f1 import F1
from medseg.metrics.iou import Iou
from medseg.metrics.overlap import Counts
from medseg.metrics.precision import Precision
from medseg.metrics.recall import Recall
from medseg.metrics.volume_error import volume_error

INDEX = hnp.arrays(np.int16, (4, 5), elements=st.integers(0, 2))


def test_worked_by_hand():
    n = Counts(tp=3, fp=1, fn=2, tn=4)
    assert Dice().value(n) == F1().value(n) == pytest.approx(6 / 9)
    assert Iou().value(n) == pytest.approx(3 / 6)
    assert Precision().value(n) == pytest.approx(3 / 4)
    assert Recall().value(n) == pytest.approx(3 / 5)
    assert volume_error(n, (1.0, 2.0, 3.0)) == 6.0  # 4 predicted, 5 labelled, 6 mm3 each
    assert volume_error(Counts(3, 2, 1, 0), (2.0, 2.0)) == 4.0


@pytest.mark.parametrize("metric", [Dice(), F1(), Iou(), Precision(), Recall()])
def test_undefined_is_nan(metric):
    assert math.isnan(metric.value(Counts(0, 0, 0, 5)))


@given(INDEX, INDEX, hnp.arrays(bool, (4, 5)), st.sampled_from([(1,), (2,), (1, 2), (0, 2)]))
def test_counts_equal_masks(pred, label, counted, members):
    a, b = np.isin(pred, members) & counted, np.isin(label, members) & counted
    tp, fp, fn = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    expected = Counts(tp, fp, fn, int(counted.sum()) - tp - fp - fn)
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
