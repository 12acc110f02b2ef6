"""Means over cases, with intervals: the content of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.metrics.metric import Metric
from medseg.metrics.registry import builtin
from medseg.metrics.score import WHOLE_CASE

_NAMES = ("case", "class")

Result = Mapping[str, Any]
"""The content of ``metrics.json``: ``summary``, ``classes``, ``policy``, ``cases`` and ``confusion``."""
Score = Mapping[str, Any]
"""A metric in it: ``mean``, ``ci95`` and ``cases``."""


def primary_metric(result: Result, metrics: Sequence[Metric] = ()) -> str | None:
    """Key of the metric that cases are ranked and plotted by: the first one listed that can rank cases; None if none.

    Args:
        result: The content of ``metrics.json``.
        metrics: Metrics other than those of the package that it may hold.

    Example:
        >>> primary_metric({"classes": {"road": {"hd95_mm": {}, "iou": {}, "f1": {}}}})
        'iou'
    """
    ranking = {name for name, cls in builtin().items() if cls().ranks_cases}
    ranking |= {metric.name for metric in metrics if metric.ranks_cases}
    keys = (key for by_metric in result["classes"].values() for key in by_metric)
    return next((key for key in keys if key in ranking), None)


def aggregate(
    rows: Sequence[Mapping[str, Any]], *, policy: Mapping[str, Any], resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The content of ``metrics.json``, as means of the values of single cases.

    ``classes`` has the mean over cases of each class. ``summary`` has the mean of those class means,
    so that a class that few cases have weighs as much as the others (nnU-Net's foreground mean), and
    the mean over cases of the metrics that a case has as a whole. ``cases`` next to each mean is how
    many cases entered it. ``ci95`` is the interval between the 2.5th and the 97.5th percentile of the
    mean when cases are drawn anew with replacement; null with fewer than two cases. Every metric sees
    the same draws.

    Args:
        rows: Rows of all cases, as ``score_case`` returns them. A case that is listed twice (distributed
            samplers pad) counts once.
        policy: The miss policy, as it goes into the output.
        resamples: Number of draws.
        seed: Random seed of the draws.

    Returns:
        JSON-able; NaN has become None.
    """
    unique = {(row["case"], row["class"]): row for row in rows}
    values = values_by_metric(unique)
    return {
        "summary": {key: _mean(of_metric, resamples, seed) for key, of_metric in values.items()},
        "classes": _class_means(unique, values, resamples, seed),
        "policy": dict(policy),
        "cases": [{key: none_if_nan(value) for key, value in row.items()} for row in unique.values()],
    }


def _class_means(
    rows: Mapping[tuple[str, str], Mapping[str, Any]],
    values: Mapping[str, Float[np.ndarray, "n k"]],
    resamples: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Means over the cases of each class, of the metrics that classes have."""
    of_classes = {key for (_, name), row in rows.items() if name != WHOLE_CASE for key in row}
    keys = [key for key in values if key in of_classes]
    classes = {}
    for i, name in enumerate(_unique(name for _, name in rows)):
        if name != WHOLE_CASE:
            classes[name] = {key: _mean(values[key][:, [i]], resamples, seed) for key in keys}
    return classes


def values_by_metric(
    rows: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Float[np.ndarray, "n k"]]:
    """Values of each metric by case and class, in order of appearance; NaN where a row lacks the metric."""
    cases, names = _unique(case for case, _ in rows), _unique(name for _, name in rows)
    keys = _unique(key for row in rows.values() for key in row if key not in _NAMES)
    return {
        key: np.array([[rows.get((case, name), {}).get(key, math.nan) for name in names] for case in cases])
        for key in keys
    }


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def entry(
    values_of: Callable[[Int[np.ndarray, "r n"]], Float[np.ndarray, " r"]],
    *,
    n: int,
    entered: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """One value as ``metrics.json`` has it: ``mean``, ``ci95``, ``cases``.

    Args:
        values_of: The value when case i is taken ``draws[r, i]`` times, for each draw r; NaN if there is none.
        n: Number of cases.
        entered: Number of cases with a defined value.
        resamples: Number of draws.
        seed: Random seed of the draws.
    """
    interval = None
    if entered > 1:
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
        drawn = values_of(draws)
        interval = np.percentile(drawn[~np.isnan(drawn)], [2.5, 97.5]).tolist()
    return {
        "mean": none_if_nan(float(values_of(np.ones((1, n), dtype=np.int64))[0])),
        "ci95": interval,
        "cases": entered,
    }


def none_if_nan(value: object) -> object:
    """The value, None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _mean(values: Float[np.ndarray, "n k"], resamples: int, seed: int) -> dict[str, object]:
    def of(draws: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        return mean_of_class_means(values, draws)

    entered = int((~np.isnan(values)).any(axis=1).sum())
    return entry(of, n=len(values), entered=entered, resamples=resamples, seed=seed)


def mean_of_class_means(values: Float[np.ndarray, "n k"], draws: Real[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    """Mean of the class means when case i is taken ``draws[r, i]`` times; NaN if no class has a value."""
    present = ~np.isnan(values)
    taken = draws @ present
    of_class = np.divide(draws @ np.where(present, values, 0.0), taken, out=np.zeros(taken.shape), where=taken > 0)
    classes = (taken > 0).sum(axis=1)
    return np.divide(of_class.sum(axis=1), classes, out=np.full(len(draws), np.nan), where=classes > 0)
