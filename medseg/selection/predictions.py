"""Out-of-fold predictions of every candidate, case by case: label maps on the disk, scores in memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.inference.decide import decide
from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.metrics.metric import ClassMetric, Metric
from medseg.metrics.registry import builtin
from medseg.metrics.score import WHOLE_CASE
from medseg.sample import Sample

Probabilities = Callable[[int, Sample], Float[np.ndarray, "k *s"]]
"""(place of the member, case) -> probabilities by the network that did not see the case."""


@dataclass(frozen=True)
class Scorer:
    """One metric of a case: a value for each class, and their mean.

    Attributes:
        name: Name of the metric of the package.
        labels: Classes.
    """

    name: str
    labels: LabelTable

    def __post_init__(self) -> None:
        usable = [name for name, cls in builtin().items() if _orders_candidates(cls)]
        if self.name not in usable:
            raise InputError(f"criterion={self.name}: expected one of {', '.join(usable)}")

    @property
    def larger(self) -> bool:
        """Whether a larger value is better."""
        return builtin()[self.name].larger_is_better is True

    def __call__(self, index: Int[np.ndarray, " *s"], case: CaseData) -> dict[str, float]:
        """The value of each class, NaN where it has none."""
        scores = CaseScores(self.labels, metrics=[self.name])
        place: Any = {"spacing": case.grid.spacing, "unit": case.grid.unit}
        rows = scores.add(case.name, index, case.label, case.valid, annotated=case.annotated, **place)
        return {
            row["class"]: next(value for key, value in row.items() if key not in ("case", "class"))
            for row in rows
            if row["class"] != WHOLE_CASE
        }


def _orders_candidates(metric: type[Metric]) -> bool:
    """Whether the better of two label maps follows from the values of their classes."""
    return issubclass(metric, ClassMetric) and not metric.needs_prob and metric.larger_is_better is not None


def mean_of_classes(values: Mapping[str, float]) -> float:
    """Mean over the classes that have a value; NaN if none has."""
    defined = [value for value in values.values() if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


@dataclass(frozen=True)
class CaseData:
    """What a case is scored on.

    Attributes:
        name: Case identifier.
        label: Training index of each cell, or ``IGNORE``.
        valid: False where a cell does not count.
        grid: Of the cells.
        annotated: Which outputs of the networks the label annotates; None for all.
    """

    name: str
    label: Int[np.ndarray, " *s"]
    valid: Bool[np.ndarray, " *s"]
    grid: Grid
    annotated: Bool[np.ndarray, " k"] | None = None

    @classmethod
    def of(cls, sample: Sample) -> CaseData:
        """Of a labelled case."""
        label: Any = sample.label
        return cls(sample.case, label, sample.valid, sample.grid, sample.annotated)


@dataclass
class Predictions:
    """Label maps of candidates in a temporary folder, and their scores.

    Attributes:
        folder: Of the label maps, one compressed file for each case and candidate.
        values: By decision and candidate: the value of each class of each case.
    """

    folder: Path
    values: dict[tuple[str, str], dict[str, dict[str, float]]] = field(default_factory=dict)

    def add(self, decision: str, candidate: str, case: str, values: Mapping[str, float]) -> None:
        """Keep the scores of one case."""
        self.values.setdefault((decision, candidate), {})[case] = dict(values)

    def keep(self, candidate: str, case: str, index: Int[np.ndarray, " *s"]) -> None:
        """Write a label map."""
        np.savez_compressed(self._path(candidate, case), index=index.astype(np.int16))

    def index(self, candidate: str, case: str) -> Int[np.ndarray, " *s"]:
        """A label map that was written."""
        with np.load(self._path(candidate, case)) as stored:
            return np.asarray(stored["index"])

    def scores(self, decision: str) -> dict[str, dict[str, float]]:
        """Mean over classes by candidate and case."""
        return {
            candidate: {case: mean_of_classes(values) for case, values in by_case.items()}
            for (of, candidate), by_case in self.values.items()
            if of == decision
        }

    def rows(self, metric: str) -> list[dict[str, Any]]:
        """A row for each decision, candidate and case: the mean over classes, and each class."""
        return [
            {
                "decision": decision,
                "candidate": candidate,
                "case": case,
                metric: mean_of_classes(values),
                **{f"{metric}/{name}": value for name, value in values.items()},
            }
            for (decision, candidate), by_case in self.values.items()
            for case, values in by_case.items()
        ]

    def _path(self, candidate: str, case: str) -> Path:
        return self.folder / f"{hashlib.sha256(f'{candidate}/{case}'.encode()).hexdigest()[:32]}.npz"


def decided(
    probabilities: Sequence[Float[np.ndarray, "k *s"]], labels: LabelTable, valid: Bool[np.ndarray, " *s"]
) -> Int[np.ndarray, " *s"]:
    """Classes of the mean of probabilities; 0 where a cell is not valid."""
    mean = sum(probabilities[1:], start=probabilities[0]) / len(probabilities)
    logits = torch.from_numpy(mean - 0.5 if labels.regions else mean)  # a region is where the mean exceeds one half
    return np.where(valid, decide(logits, labels).numpy(), 0).astype(np.int16)


def predict_sets(
    samples: Iterable[Sample],
    sets: Mapping[str, Sequence[int]],
    probability_of: Probabilities,
    predictions: Predictions,
    scorer: Scorer,
    *,
    decisions: Mapping[str, str],
) -> None:
    """Predict and score cases by several sets of members; only one case is held at a time.

    Args:
        samples: Labelled cases.
        sets: Members of each candidate, by their places.
        probability_of: Predicts.
        predictions: Takes label maps and scores.
        scorer: Scores a case.
        decisions: The decision that each candidate belongs to.
    """
    members = sorted({member for places in sets.values() for member in places})
    for sample in samples:
        probability = {member: probability_of(member, sample) for member in members}
        case = CaseData.of(sample)
        for candidate, places in sets.items():
            index = decided([probability[place] for place in places], scorer.labels, sample.valid)
            predictions.keep(candidate, sample.case, index)
            predictions.add(decisions[candidate], candidate, sample.case, scorer(index, case))
