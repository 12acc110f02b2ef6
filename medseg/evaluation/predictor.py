"""Scores of a predictor on labelled cases, on the grid of their own files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from medseg.data.dataset import Case
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.inference.predictor import CasePredictor
from medseg.metrics.accumulate import CaseScores
from medseg.sample import Sample


def evaluate_predictor(
    predictor: CasePredictor[Preprocess],
    cases: Sequence[Case],
    read: Callable[[Case], Sample],
    scores: CaseScores,
    *,
    shown: int = 4,
    watch: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> list[tuple[Sample, np.ndarray]]:
    """Predict and score every case; the scores go into ``scores``.

    What is scored is what ``medseg-predict`` would write: the whole path from file to label grid.

    Args:
        predictor: One or several trained networks with their preprocessing and decision.
        cases: Labelled cases.
        read: Reads one case.
        scores: Collects the rows.
        shown: Number of cases to return for pictures, spread over all.
        watch: Wraps the iteration, for a progress bar.

    Returns:
        (sample, predicted training indices) of the shown cases.
    """
    pictured = {cases[i].id for i in np.linspace(0, len(cases) - 1, min(shown, len(cases))).astype(int)}
    samples = []
    for case in watch(cases):
        sample = read(case)
        pred, prob = predictor.index_and_prob(sample) if scores.needs_prob else (predictor.index(sample), None)
        label: Any = sample.label
        grid = sample.grid
        scores.add(case.id, pred, label, sample.valid, spacing=grid.spacing, unit=grid.unit, prob=prob)
        if case.id in pictured:
            samples.append((sample, pred))
    return samples
