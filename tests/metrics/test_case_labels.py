"""Scores of the class of whole cases, by hand."""

import math

import numpy as np
import pytest

from medseg.metrics.case_labels import CaseLabelScores, case_scores


def test_scores_by_hand() -> None:
    prob = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.5, 0.5]], dtype=np.float32)
    scores = case_scores(prob, np.array([0, 0, 0, 1, -1]))
    assert scores == {"accuracy": 1, "balanced_accuracy": 1, "auc": 1}
    scores = case_scores(prob[[0, 1, 2, 3]], np.array([0, 0, 1, 1]))
    assert scores["accuracy"] == 0.75
    assert scores["auc"] == 0.75  # of four pairs, (0.4, 0.2) alone is in the wrong order
    assert case_scores(prob[:4], np.array([0, 1, 1, 1]))["balanced_accuracy"] == pytest.approx((1 + 1 / 3) / 2)


def test_ties_count_half() -> None:
    assert case_scores(np.full((4, 2), 0.5, np.float32), np.array([0, 1, 1, 0]))["auc"] == 0.5


def test_auc_is_the_mean_over_classes_that_some_cases_have() -> None:
    prob = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], dtype=np.float32)
    scores = case_scores(prob, np.array([0, 1, 1]))
    assert scores["auc"] == 1
    assert math.isnan(case_scores(prob, np.array([1, 1, 1]))["auc"])
    assert math.isnan(case_scores(prob, np.array([-1, -1, -1]))["accuracy"])


def test_the_section_of_the_metrics() -> None:
    scores = CaseLabelScores("lesion", ("benign", "malign"))
    for row, label in (([0.7, 0.3], "benign"), ([0.6, 0.4], "malign"), ([0.2, 0.8], "malign"), ([1.0, 0.0], "")):
        scores.add(np.array(row, dtype=np.float32), label)
    assert scores.result() == {
        "name": "lesion",
        "classes": ["benign", "malign"],
        "cases": 3,
        "accuracy": pytest.approx(2 / 3),
        "balanced_accuracy": 0.75,
        "auc": 1.0,
        "confusion": [[1, 0], [1, 1]],
    }
    assert CaseLabelScores("lesion", ("a", "b")).result()["auc"] is None
