"""Pooled scores: the cells of all cases are counted together, as is usual for scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medseg.metrics.metric import ClassMetric, Pooled
from medseg.metrics.score import WHOLE_CASE, CaseRecord
from medseg.metrics.summary import entry


def pool(
    records: Sequence[CaseRecord], metric: Pooled, *, resamples: int, seed: int
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The pooled value of one metric as ``summary`` of ``metrics.json`` has it, and those of its classes or groups.

    The value of the summary is the mean over the classes that have one; ``classes`` next to it is how many these are,
    for a class that is in neither label nor prediction of any case has no value. ``cases`` is how many cases have the
    class. ``ci95`` comes from drawing cases anew and pooling again.

    Args:
        records: Numbers of each case; one at least.
        metric: The metric.
        resamples: Number of draws.
        seed: Random seed of the draws.
    """
    parts = np.stack([record.parts[metric.name] for record in records])
    present = metric.present(parts)
    groups = range(parts.shape[1])

    def value(columns: Sequence[int]) -> dict[str, Any]:
        counts = parts[:, list(columns)].astype(np.float64)  # exact up to 2^53 cells
        entered = int(present[:, list(columns)].any(axis=1).sum())

        def mean_of_groups(draws: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
            return mean_of_defined(metric.resampled(draws.astype(np.float64), counts))

        return entry(mean_of_groups, n=len(records), entered=entered, resamples=resamples, seed=seed)

    summary = value(groups) | ({"classes": int(present.any(axis=0).sum())} if metric.counts_classes else {})
    return summary, [value([group]) for group in groups]


def details(records: Sequence[CaseRecord], metric: Pooled, names: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """The table of a metric with details, for each class or for all together, over all cases.

    Args:
        records: Numbers of each case; one at least.
        metric: The metric.
        names: Of the classes, if it is a metric of classes.
    """
    sums = np.stack([record.parts[metric.name] for record in records]).sum(axis=0)
    named = names if isinstance(metric, ClassMetric) else (WHOLE_CASE,)
    return {name: metric.detail(parts) for name, parts in zip(named, sums, strict=True)}


def mean_of_defined(values: Float[np.ndarray, "r g"]) -> Float[np.ndarray, " r"]:
    """Mean over the groups that have a value; NaN if none has."""
    defined = ~np.isnan(values)
    entered = defined.sum(axis=1)
    total = np.where(defined, values, 0.0).sum(axis=1)
    return np.divide(total, entered, out=np.full(len(values), np.nan), where=entered > 0)
