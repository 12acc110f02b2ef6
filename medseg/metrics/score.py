"""Scores of one case: a row for each structure, and the numbers that pooling adds up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, Real

from medseg.metrics.metric import CaseMetric, ClassMetric, Metric, Pooled
from medseg.metrics.structure import CaseCells

WHOLE_CASE = "(all)"
"""Stands for the class in the row of the metrics that a case has as a whole."""


@dataclass(frozen=True)
class CaseRecord:
    """Numbers of one case that add up over cases.

    Attributes:
        confusion: Cells by labelled (row) and predicted (column) class.
        parts: By metric, what it adds up, with a row for each structure or group; see ``Pooled.parts``. 0 for
            structures that the case does not annotate.
    """

    confusion: Int[np.ndarray, "k k"]
    parts: Mapping[str, Real[np.ndarray, "g *q"]] = field(default_factory=dict)


def score_case(
    case: CaseCells, metrics: Sequence[Metric], *, pooled: bool = False
) -> tuple[list[dict[str, Any]], CaseRecord]:
    """Scores of one case: a row for each of ``labels.targets`` that it annotates, and one for the case as a whole.

    Args:
        case: The cells; ignored and invalid ones belong to no structure, predicted or labelled.
        metrics: What is scored.
        pooled: Keep what the pooled metrics add up; that of metrics with a table of details is kept in any case.

    Returns:
        Rows ``{"case", "class", key: value}``, with the keys of the metrics, and NaN where a metric has no value for
        the case. And the numbers that add up.
    """
    of_class = [metric for metric in metrics if isinstance(metric, ClassMetric)]
    of_case = [metric for metric in metrics if isinstance(metric, CaseMetric)]
    keys = {metric.name: metric.key(case.unit, case.ndim) for metric in metrics}
    rows, parts = _score_structures(case, of_class, keys, pooled=pooled)
    if of_case:
        values = {keys[metric.name]: metric.measure(case) for metric in of_case}
        rows.append({"case": case.name, "class": WHOLE_CASE} | values)
        parts |= {metric.name: metric.parts(case) for metric in _pooling(of_case, pooled=pooled)}
    return rows, CaseRecord(case.confusion, parts)


def _score_structures(
    case: CaseCells, metrics: Sequence[ClassMetric], keys: Mapping[str, str], *, pooled: bool
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A row for each structure; and by metric what it adds up, with a row for each structure."""
    rows = []
    summed = _pooling(metrics, pooled=pooled)
    parts: dict[str, list[np.ndarray]] = {metric.name: [] for metric in summed}
    for structure in case.structures():
        if structure.is_annotated:
            values = {keys[metric.name]: metric.score(structure) for metric in metrics}
            rows.append({"case": case.name, "class": structure.name} | values)
        for metric in summed:
            numbers = metric.parts(structure)
            parts[metric.name].append(numbers if structure.is_annotated else np.zeros_like(numbers))
    return rows, {name: np.stack(of_structures) for name, of_structures in parts.items()}


def _pooling(metrics: Sequence[Metric], *, pooled: bool) -> list[Pooled]:
    return [metric for metric in metrics if isinstance(metric, Pooled) and (pooled or metric.has_detail)]
