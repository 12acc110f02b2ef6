"""Matthews correlation coefficient: a value worked by hand, the correlation of the cells, and the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.mcc import Mcc
from medseg.metrics.overlap import Counts

TABLE = LabelTable.declare({"background": 0, "a": 1})
SOME, NONE = np.array([[1, 1, 0, 0]], np.int16), np.zeros((1, 4), np.int16)


def scored(*cases: tuple[np.ndarray, np.ndarray], pooled: bool = False) -> tuple[list[float], dict]:
    """The value of each case, and the entry of the class."""
    scores = CaseScores(TABLE, metrics=["mcc"], pooled=pooled, resamples=20)
    for i, (pred, label) in enumerate(cases):
        scores.add(f"p{i}", pred, label, label >= 0, spacing=(1.0, 1.0), unit="px")
    result = scores.result()
    return [row["mcc"] for row in result["cases"]], result["classes"]["a"]["mcc"]


def test_worked_by_hand() -> None:
    # 6 * 3 - 1 * 2 = 16, over the root of 7 * 8 * 4 * 5 = 1120
    assert Mcc().value(Counts(tp=6, fp=1, fn=2, tn=3)) == pytest.approx(16 / 1120**0.5)


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.integers(0, 2**30 - 1))
def test_is_the_correlation_of_the_cells(label: list[bool], bits: int) -> None:
    pred = [bool(bits >> i & 1) for i in range(len(label))]
    a, b = np.array(pred), np.array(label)
    n = Counts(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))
    if a.std() and b.std():
        assert Mcc().value(n) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    else:
        assert Mcc().value(n) == (1.0 if (a == b).all() else 0.0)


def test_missed_false_and_absent_structures() -> None:
    values, entry = scored((NONE, SOME), (SOME, NONE), (NONE, NONE), (SOME, SOME), (1 - SOME, SOME))
    assert values == [0.0, 0.0, None, 1.0, -1.0]
    assert (entry["mean"], entry["cases"]) == (0.0, 4)


def test_a_structure_that_fills_the_case() -> None:
    full = np.ones((1, 4), np.int16)
    assert scored((full, full), (SOME, full), (full, SOME))[0] == [1.0, 0.0, 0.0]


def test_pools_the_cells_of_all_cases() -> None:
    _, entry = scored((NONE, SOME), (SOME, SOME), pooled=True)
    # tp 2, fp 0, fn 2, tn 4
    assert entry["mean"] == pytest.approx(8 / (2 * 4 * 4 * 6) ** 0.5)
    assert scored((NONE, SOME), (NONE, SOME), pooled=True)[1]["mean"] == 0.0
    assert scored((NONE, NONE), pooled=True)[1] == {"mean": None, "ci95": None, "cases": 0}


def test_large_scenes_do_not_overflow() -> None:
    many = 10**11
    assert Mcc().value(Counts(tp=many, fp=many, fn=many, tn=many)) == 0.0
    assert Mcc().value(Counts(tp=3 * many, fp=many, fn=many, tn=3 * many)) == pytest.approx(0.5)
