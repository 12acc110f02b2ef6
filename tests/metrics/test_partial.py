"""Scores of cases that annotate some of the classes, by hand."""

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.overlap import confusion_matrix
from medseg.metrics.validation import validation_scores

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
NESTED = LabelTable.declare({"background": 0, "whole": [1, 2], "core": [2]}, regions_class_order=[1, 2])
COVER = LabelTable.declare({"wood": 0, "water": 1, "road": 2}, background=None)
LABEL, PRED = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 2, 2, 2, 1, 0, 0])
"""Of a: 2 right, 1 false, 1 missed, which is called b; two cells of the background are called b as well."""
FULL = np.array([1, 2, 0, 0, 0, 0, 0, 0])
A_ALONE = np.array([True, True, False])
PLACE = {"spacing": (1.0,), "unit": "mm"}
VALID = np.ones(8, bool)


def scored(*, metrics: list[str], pooled: bool = False, prob: np.ndarray | None = None) -> dict:
    scores = CaseScores(TABLE, metrics=metrics, pooled=pooled, resamples=10)
    rows = scores.add("partial", PRED, LABEL, VALID, **PLACE, prob=prob, annotated=A_ALONE)
    assert [row["class"] for row in rows if row["class"] != "(all)"] == ["a"]
    scores.add("full", FULL, FULL, VALID, **PLACE, prob=prob)
    return scores.result()


def test_a_class_that_a_case_does_not_annotate_has_no_row_and_its_mean_says_how_many_cases_entered():
    result = scored(metrics=["dice", "accuracy"])
    dice = {name: (by["dice"]["mean"], by["dice"]["cases"]) for name, by in result["classes"].items()}
    assert dice == {"a": (pytest.approx((4 / 6 + 1) / 2), 2), "b": (1.0, 1)}
    assert result["summary"]["dice"]["mean"] == pytest.approx(((4 / 6 + 1) / 2 + 1) / 2)
    assert result["policy"]["annotated"].startswith("1 of 2 cases do not annotate every class")
    accuracy = {row["case"]: row["accuracy"] for row in result["cases"] if row["class"] == "(all)"}
    assert accuracy == {"partial": 6 / 8, "full": 1.0}  # b on the background is no error, b on a is one


def test_pooled_cells_are_those_of_the_cases_that_annotate_a_class():
    result = scored(metrics=["dice", "miou"], pooled=True)
    dice = {name: (by["dice"]["mean"], by["dice"]["cases"]) for name, by in result["classes"].items()}
    assert dice == {"a": (pytest.approx(6 / 8), 2), "b": (1.0, 1)}
    background = (4 + 6) / (5 + 6 + 1)  # of the partial case 4 right, 1 missed and 1 false
    assert result["summary"]["miou"]["mean"] == pytest.approx((background + 3 / 5 + 1) / 3)


def test_cells_of_unknown_class_are_no_negatives_of_an_area_under_the_curve():
    prob = np.full((3, 8), 0.1)
    prob[2] = [0.2, 0.9, 0.3, 0.99, 0.99, 0.1, 0.1, 0.1]  # cells 3 and 4 of the partial case may well be b
    result = scored(metrics=["auc"], pooled=True, prob=prob)
    assert result["classes"]["b"]["auc"] == {"mean": pytest.approx(5 / 7), "ci95": None, "cases": 1}


def test_a_class_that_no_case_annotates_has_no_score():
    scores = CaseScores(TABLE, metrics=["dice"], pooled=True, resamples=10)
    scores.add("partial", PRED, LABEL, VALID, **PLACE, annotated=A_ALONE)
    result = scores.result()
    assert result["classes"]["b"]["dice"] == {"mean": None, "ci95": None, "cases": 0}
    again = CaseScores(TABLE, metrics=["dice"], pooled=True, resamples=10)
    again.add_stored(scores.stored())
    assert again.result() == result


@pytest.mark.parametrize("pooled", [False, True])
def test_validation_counts_as_the_final_scores_do(pooled: bool):
    partial = confusion_matrix(PRED, LABEL, VALID, TABLE, A_ALONE)
    assert partial.tolist() == [[4, 1, 0], [1, 2, 0], [0, 0, 0]]
    full = confusion_matrix(FULL, FULL, VALID, TABLE)
    scores = validation_scores([partial, full], TABLE, pooled=pooled, annotated=[A_ALONE, None])
    assert scores["dice/a"] == pytest.approx(6 / 8 if pooled else (4 / 6 + 1) / 2)
    assert scores["dice/b"] == 1
    if pooled:
        assert scores["miou"] == pytest.approx((10 / 12 + 3 / 5 + 1) / 3)


def test_regions_are_scored_where_they_are_annotated():
    label, pred = np.array([1, 1, 1, 1, 0]), np.array([1, 2, 2, 0, 0])
    whole = np.array([True, False])
    scores = CaseScores(NESTED, metrics=["dice"], resamples=10)
    (row,) = scores.add("x", pred, label, VALID[:5], **PLACE, annotated=whole)
    assert (row["class"], row["dice"]) == ("whole", pytest.approx(6 / 7))  # a core is a part of the whole
    table = confusion_matrix(pred, label, VALID[:5], NESTED, whole)
    by_case = validation_scores([table], NESTED, pooled=False, annotated=[whole])
    assert by_case["dice/whole"] == by_case["dice"] == pytest.approx(6 / 7)
    assert np.isnan(by_case["dice/core"])


def test_without_a_background_cells_of_other_classes_are_unknown_and_a_wrong_class_is_an_error():
    label, pred = np.array([1, 1, 1, 0, -1]), np.array([1, 1, 2, 2, 2])
    water = np.array([False, True, False])
    scores = CaseScores(COVER, metrics=["dice", "accuracy"], resamples=10)
    rows = scores.add("x", pred, label, VALID[:5], **PLACE, annotated=water)
    assert [(row["class"], row.get("dice"), row.get("accuracy")) for row in rows] == [
        ("water", pytest.approx(4 / 5), None), ("(all)", None, pytest.approx(2 / 3))
    ]  # fmt: skip
    table = confusion_matrix(pred, label, VALID[:5], COVER, water)
    assert validation_scores([table], COVER, pooled=True, annotated=[water])["miou"] == pytest.approx(2 / 3)
