"""ObserverScores: predictions against each of several observers, and the observers against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import permutations
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from medseg.labels import IGNORE
from medseg.metrics.accumulate import CaseScores

_BETWEEN = " against "
"""Between the names of the observers of a pair."""


class ObserverScores:
    """Scores of cases that several observers have labelled.

    The agreement of the observers is the mean over cases and ordered pairs of them, of which the first counts as the
    prediction. What one of a pair ignores does not count. Metrics that need probabilities are left out.

    Args:
        scores: Whose label table and metrics these are.
    """

    def __init__(self, scores: CaseScores) -> None:
        self._scores = copy(scores)
        self._scores.metrics = tuple(metric for metric in scores.metrics if not metric.needs_prob)
        self._scores.resamples = 1  # means alone are taken
        self._against: dict[str, CaseScores] = {}
        self._between: dict[str, CaseScores] = {}

    def add(
        self,
        case: str,
        pred: Int[np.ndarray, " *s"],
        votes: Mapping[str, Int[np.ndarray, " *s"]],
        valid: Bool[np.ndarray, " *s"],
        *,
        spacing: Sequence[float],
        unit: str,
        annotated: Bool[np.ndarray, " k"] | None = None,
    ) -> None:
        """Score one case.

        Args:
            case: Its name.
            pred: Predicted training index of each cell.
            votes: By observer, training index of each cell or ``IGNORE``.
            valid: False where a cell does not count.
            spacing: As in ``CaseScores.add``.
            unit: As in ``CaseScores.add``.
            annotated: As in ``CaseScores.add``.
        """
        place: Any = {"spacing": spacing, "unit": unit, "annotated": annotated}
        for name, label in votes.items():
            self._of(self._against, name).add(case, pred, label, valid, **place)
        for first, second in permutations(votes, 2):
            own = votes[first]
            pair = self._of(self._between, f"{first}{_BETWEEN}{second}")
            pair.add(case, np.where(own == IGNORE, 0, own), votes[second], valid & (own != IGNORE), **place)

    def _of(self, group: dict[str, CaseScores], name: str) -> CaseScores:
        """Scores of an observer, or of a pair of them."""
        if name not in group:
            group[name] = copy(self._scores)
            group[name].reset()
        return group[name]

    def stored(self) -> dict[str, Any]:
        """All that is known of the cases so far, JSON-able; ``add_stored`` is its inverse."""
        groups = {"against": self._against, "between": self._between}
        return {key: {name: one.stored() for name, one in group.items()} for key, group in groups.items()}

    def add_stored(self, stored: Mapping[str, Any]) -> None:
        """Add the cases of other scores with the same settings, as ``stored`` gave them."""
        for key, group in (("against", self._against), ("between", self._between)):
            for name, one in stored.get(key, {}).items():
                self._of(group, name).add_stored(one)

    def result(self) -> dict[str, Any]:
        """``observers`` of ``metrics.json``; empty without cases."""
        if not self._against:
            return {}
        by_observer = {name: _means(one) for name, one in self._against.items()}
        pairs = [_means(one) for one in self._between.values()]
        section = {"prediction": by_observer, "mean": _mean(list(by_observer.values())), "agreement": _mean(pairs)}
        return {"observers": section}


def _means(scores: CaseScores) -> dict[str, float | None]:
    """The mean of each metric, as ``summary`` has it."""
    return {key: entry["mean"] for key, entry in scores.result()["summary"].items()}


def _mean(parts: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Mean of each metric over the parts that have a value; None where none has."""
    means: dict[str, float | None] = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        values = [value for part in parts if (value := part.get(key)) is not None]
        means[key] = float(np.mean(values)) if values else None
    return means
