"""Scores against each observer, and of the observers against each other."""

from typing import Any

import numpy as np
import pytest

from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.observers import ObserverScores
from medseg.report.observers import observers_table

TABLE = LabelTable.declare({"background": 0, "lesion": 1})
PLACE: dict[str, Any] = {"spacing": (1.0, 1.0), "unit": "mm"}
PRED = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
ANNA = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
BERT = np.array([[1, 1, 0, 0], [1, 1, IGNORE, 0]])


def scores(**own: Any) -> CaseScores:
    return CaseScores(TABLE, metrics=["dice", "precision"], resamples=20, **own)


def test_two_observers_by_hand() -> None:
    """Dice: 2 of 2 and 3 cells; 2 of 2 and 4; and 2 of 3 and 4. Precision between: 2 of 3 and 2 of 4."""
    found = ObserverScores(scores())
    valid = np.ones((2, 4), dtype=bool)
    found.add("c", PRED, {"anna": ANNA, "bert": BERT}, valid, **PLACE)
    section = found.result()["observers"]
    assert section["prediction"]["anna"]["dice"] == pytest.approx(4 / 5)
    assert section["prediction"]["bert"]["dice"] == pytest.approx(4 / 6)
    assert section["mean"]["dice"] == pytest.approx((4 / 5 + 4 / 6) / 2)
    assert section["agreement"]["dice"] == pytest.approx(4 / 7)
    assert section["agreement"]["precision"] == pytest.approx((2 / 3 + 2 / 4) / 2)


def test_what_one_of_a_pair_ignores_does_not_count() -> None:
    found = ObserverScores(scores())
    bert = BERT.copy()
    bert[0, 2] = IGNORE  # where only anna says lesion
    found.add("c", PRED, {"anna": ANNA, "bert": bert}, np.array([[True] * 4, [False] * 4]), **PLACE)
    assert found.result()["observers"]["agreement"]["dice"] == 1
    assert found.result()["observers"]["agreement"]["precision"] == 1


def test_observers_who_agree_give_the_plain_scores_and_an_agreement_of_one() -> None:
    valid = np.ones((2, 4), dtype=bool)
    plain, found = scores(), ObserverScores(scores(auc=True))  # which has no probabilities here
    plain.add("c", PRED, ANNA, valid, **PLACE)
    found.add("c", PRED, {"anna": ANNA, "carl": ANNA}, valid, **PLACE)
    section = found.result()["observers"]
    expected = {key: entry["mean"] for key, entry in plain.result()["summary"].items()}
    assert section["prediction"] == {"anna": expected, "carl": expected}
    assert section["mean"] == expected
    assert section["agreement"] == {"dice": 1, "precision": 1}


@pytest.mark.parametrize("pooled", [False, True])
def test_stored_scores_are_those_of_one_process(pooled: bool) -> None:
    valid = np.ones((2, 4), dtype=bool)
    whole, joined = ObserverScores(scores(pooled=pooled)), ObserverScores(scores(pooled=pooled))
    for case, votes in (("a", {"anna": ANNA, "bert": BERT}), ("b", {"anna": BERT, "bert": PRED})):
        part = ObserverScores(scores(pooled=pooled))
        for one in (whole, part):
            one.add(case, PRED, votes, valid, **PLACE)
        joined.add_stored(part.stored())
    assert joined.result() == whole.result()


def test_nothing_without_observers_and_a_row_for_each_in_the_report() -> None:
    assert ObserverScores(scores()).result() == {}
    assert observers_table({}, str) == ""
    section = {"prediction": {"<a>": {"dice": 0.5}, "b": {"dice": None}}, "mean": {"dice": 0.5}, "agreement": {}}
    page = observers_table({"observers": section}, str)
    assert page.index("against &lt;a&gt;") < page.index("against b") < page.index("mean of these")
    assert page.count("0.500") == 2
    assert page.count("–") == 2
