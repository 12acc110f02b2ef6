"""Scores of a round of validation during training, from the confusion matrices of its cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from medseg.labels import LabelTable
from medseg.metrics.dice import Dice
from medseg.metrics.iou import Iou
from medseg.metrics.miou import groups_of
from medseg.metrics.overlap import Counts, counts

_DICE, _IOU = Dice(), Iou()


def validation_scores(
    tables: Sequence[Int[np.ndarray, "k k"]],
    labels: LabelTable,
    *,
    pooled: bool,
    annotated: Sequence[Bool[np.ndarray, " o"] | None] = (),
) -> dict[str, float]:
    """Scores of a round of validation by the end of their key: ``dice``, ``dice/<class>`` and more.

    Args:
        tables: Confusion matrix of each case.
        labels: Names the scored classes or regions.
        pooled: Count the cells of all cases together, as for scenes; then ``iou/<class>`` and ``miou``
            are added. If not, Dice is the mean over cases; a class that a case has neither in label nor
            in prediction is left out there.
        annotated: Which classes (with regions, which regions) each case annotates, None for all; the others are not
            scored for it. Empty if all cases annotate all.

    Returns:
        Dice is NaN for a class that no case has; their mean, ``dice``, leaves such out, and is 0 if no
        class is left.
    """
    by_output = _by_output(tables, annotated or [None] * len(tables), labels, pooled=pooled)
    scores: dict[str, float] = {}
    for (name, _), counted in zip(labels.targets, by_output[-len(labels.targets) :], strict=True):
        scores |= _class_scores(name, counted, pooled=pooled)
    if pooled:
        scores["miou"] = _mean_of_defined([_IOU.value(n) for counted in by_output for n in counted])
    mean = _mean_of_defined([scores[f"dice/{name}"] for name, _ in labels.targets])
    return {"dice": 0.0 if math.isnan(mean) else mean} | scores


def _by_output(
    tables: Sequence[Int[np.ndarray, "k k"]],
    annotated: Sequence[Bool[np.ndarray, " o"] | None],
    labels: LabelTable,
    *,
    pooled: bool,
) -> list[list[Counts]]:
    """Counts of each output in the cases that annotate it; pooled, those of all these cases together."""
    own = [np.ones(labels.n_outputs, dtype=bool) if outputs is None else outputs for outputs in annotated]
    by_output = [
        [counts(table, members) for table, outputs in zip(tables, own, strict=True) if outputs[i]]
        for i, members in enumerate(groups_of(labels))
    ]
    return [[_total(counted)] if counted else [] for counted in by_output] if pooled else by_output


def _total(counted: Sequence[Counts]) -> Counts:
    """Cells of all cases together."""
    return Counts(*map(sum, zip(*counted, strict=True)))


def _class_scores(name: str, counted: Sequence[Counts], *, pooled: bool) -> dict[str, float]:
    """Scores of one class from its counts in each case, or in all cases together."""
    scores = {f"dice/{name}": _mean_of_defined([_DICE.value(n) for n in counted])}
    if pooled:
        scores[f"iou/{name}"] = _mean_of_defined([_IOU.value(n) for n in counted])
    return scores


def validation_names(labels: LabelTable, *, pooled: bool) -> tuple[str, ...]:
    """Keys of ``validation_scores``."""
    targets = [name for name, _ in labels.targets]
    by_class = [f"{metric}/{name}" for metric in class_metrics(pooled=pooled) for name in targets]
    return (*whole_case_names(pooled=pooled), *by_class)


def whole_case_names(*, pooled: bool) -> tuple[str, ...]:
    """Keys of all classes together, which need no label table."""
    return ("dice", "miou") if pooled else ("dice",)


def class_metrics(*, pooled: bool) -> tuple[str, ...]:
    """What is scored for each class."""
    return ("dice", "iou") if pooled else ("dice",)


def _mean_of_defined(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
