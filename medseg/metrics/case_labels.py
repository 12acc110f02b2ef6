"""Scores of the class of whole cases: accuracy, balanced accuracy and area under the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

CASE_SCORES = ("accuracy", "balanced_accuracy", "auc")
"""Names of the scores; 1 is perfect in each."""


def case_scores(prob: Float[np.ndarray, "n m"], label: Int[np.ndarray, " n"]) -> dict[str, float]:
    """Scores of cases whose class is known.

    ``accuracy`` is the share of cases whose most probable class is theirs; ``balanced_accuracy`` the mean of that over
    the classes that cases have; ``auc`` the mean over classes of the area under the ROC curve of one class against the
    others, of those classes that some cases have and some do not.

    Args:
        prob: Of each class.
        label: Index of the class; negative where it is not known.

    Returns:
        NaN where nothing is defined.
    """
    prob, label = prob[label >= 0], label[label >= 0]
    if not len(label):
        return dict.fromkeys(CASE_SCORES, np.nan)
    right = prob.argmax(axis=1) == label
    areas = [_area(prob[:, k], label == k) for k in range(prob.shape[1]) if 0 < (label == k).sum() < len(label)]
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[label == k].mean() for k in np.unique(label)])),
        "auc": float(np.mean(areas)) if areas else np.nan,
    }


def _area(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Share of pairs of a positive and a negative in which the positive has the higher score; ties count half."""
    higher = np.sign(score[positive][:, None] - score[~positive])
    return float((1 + higher.mean()) / 2)


class CaseLabelScores:
    """Collects the classes of cases.

    Args:
        name: What the class of a case means.
        classes: Its values.
    """

    def __init__(self, name: str, classes: Sequence[str]) -> None:
        self.name, self.classes = name, tuple(classes)
        self._rows: list[tuple[Float[np.ndarray, " m"], int]] = []

    def add(self, prob: Float[np.ndarray, " m"], label: str) -> None:
        """Add a case.

        Args:
            prob: Of each class.
            label: Its class; another value where it is not known.
        """
        self._rows.append((prob, self.classes.index(label) if label in self.classes else -1))

    def result(self) -> Mapping[str, Any]:
        """The scores with the number of cases, JSON-able; None where one is not defined."""
        prob = np.array([prob for prob, _ in self._rows]).reshape(-1, len(self.classes))
        label = np.array([index for _, index in self._rows], dtype=np.int64)
        scores = {name: None if np.isnan(value) else value for name, value in case_scores(prob, label).items()}
        confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        for row, index in self._rows:
            if index >= 0:
                confusion[index, int(row.argmax())] += 1
        shown = {"name": self.name, "classes": list(self.classes), "cases": int((label >= 0).sum())}
        return {**shown, **scores, "confusion": confusion.tolist()}
