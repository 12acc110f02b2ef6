"""Scores of a round of validation during training, from the confusion matrices of its cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from medseg.labels import LabelTable
from medseg.metrics.dice import Dice
from medseg.metrics.iou import Iou
from medseg.metrics.miou import groups_of, mean_iou
from medseg.metrics.overlap import Counts, counts

_DICE, _IOU = Dice(), Iou()


def validation_scores(
    tables: Sequence[Int[np.ndarray, "k k"]], labels: LabelTable, *, pooled: bool
) -> dict[str, float]:
    """Scores of a round of validation by the end of their key: ``dice``, ``dice/<class>`` and more.

    Args:
        tables: Confusion matrix of each case.
        labels: Names the scored classes or regions.
        pooled: Count the cells of all cases together, as for scenes; then ``iou/<class>`` and ``miou``
            are added. If not, Dice is the mean over cases; a class that a case has neither in label nor
            in prediction is left out there.

    Returns:
        Dice is NaN for a class that no case has; their mean, ``dice``, leaves such out, and is 0 if no
        class is left.
    """
    parts = [sum(tables[1:], tables[0])] if pooled and len(tables) else list(tables)
    scores: dict[str, float] = {}
    for name, members in labels.targets:
        scores |= _class_scores(name, [counts(table, members) for table in parts], pooled=pooled)
    if pooled:
        scores["miou"] = mean_iou(parts[0], groups_of(labels)) if parts else math.nan
    mean = _mean_of_defined([scores[f"dice/{name}"] for name, _ in labels.targets])
    return {"dice": 0.0 if math.isnan(mean) else mean} | scores


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
