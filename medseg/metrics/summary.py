"""Means over cases, with intervals: the content of ``metrics.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medseg.metrics.score import ALL

_LEADING = ("dice", "iou", "f1", "nsd", "boundary_iou", "precision", "recall")


def headline(result: Mapping[str, Any]) -> str | None:
    """The metric that cases are ranked and plotted by: of those in [0, 1] that each class has, the first; or None.

    Args:
        result: The content of ``metrics.json``.

    Example:
        >>> headline({"classes": {"road": {"f1": {}, "iou": {}}}})
        'iou'
    """
    there = {metric for by in result["classes"].values() for metric in by}
    return next((metric for metric in _LEADING if metric in there), None)


def summarise(
    rows: Sequence[Mapping[str, Any]], *, stated: Mapping[str, Any], resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The content of ``metrics.json``, as means of the values of single cases.

    ``classes`` has the mean over cases of each class. ``summary`` has the mean of those class means,
    so that a class that few cases have weighs as much as the others (nnU-Net's foreground mean), and
    the mean over cases of the metrics that a case has as a whole. ``cases`` beside each mean is how
    many cases entered it. ``ci95`` is the interval between the 2.5th and the 97.5th percentile of the
    mean when cases are drawn anew with replacement; null with fewer than two cases. Every metric sees
    the same draws.

    Args:
        rows: What ``score_case`` gave for all cases. A case that comes twice (distributed samplers
            pad) counts once.
        stated: The miss policy, as it goes into the output.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        JSON-able; NaN has become None.
    """
    unique = {(row["case"], row["class"]): row for row in rows}
    cases, classes = list(dict.fromkeys(c for c, _ in unique)), list(dict.fromkeys(k for _, k in unique))
    metrics = list(dict.fromkeys(key for row in rows for key in row if key not in ("case", "class")))
    by_metric = {
        m: np.array([[unique.get((c, k), {}).get(m, math.nan) for k in classes] for c in cases]) for m in metrics
    }
    of_class = [m for m in metrics if any(m in row for row in rows if row["class"] != ALL)]
    return {
        "summary": {m: _mean(values, resamples, seed) for m, values in by_metric.items()},
        "classes": {
            k: {m: _mean(by_metric[m][:, [i]], resamples, seed) for m in of_class}
            for i, k in enumerate(classes)
            if k != ALL
        },
        "policy": dict(stated),
        "cases": [{key: known(value) for key, value in row.items()} for row in unique.values()],
    }


def entry(
    values_of: Callable[[Int[np.ndarray, "r n"]], Float[np.ndarray, " r"]],
    *,
    n: int,
    entered: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """What ``metrics.json`` says of one value: ``mean``, ``ci95``, ``cases``.

    Args:
        values_of: The value when case i is taken ``draws[r, i]`` times, for each draw r; NaN if there is none.
        n: Number of cases.
        entered: How many of them had something to say.
        resamples: Number of draws.
        seed: Of the draws.
    """
    interval = None
    if entered > 1:
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
        drawn = values_of(draws)
        interval = np.percentile(drawn[~np.isnan(drawn)], [2.5, 97.5]).tolist()
    return {"mean": known(float(values_of(np.ones((1, n), dtype=np.int64))[0])), "ci95": interval, "cases": entered}


def known(value: Any) -> Any:
    """The value, None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _mean(values: Float[np.ndarray, "n k"], resamples: int, seed: int) -> dict[str, Any]:
    def of(draws: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        return _mean_of_class_means(values, draws)

    entered = int((~np.isnan(values)).any(axis=1).sum())
    return entry(of, n=len(values), entered=entered, resamples=resamples, seed=seed)


def _mean_of_class_means(values: Float[np.ndarray, "n k"], draws: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    """Mean of the class means when case i is taken ``draws[r, i]`` times; NaN if no class has a value."""
    present = ~np.isnan(values)
    taken = draws @ present
    of_class = np.divide(draws @ np.where(present, values, 0.0), taken, out=np.zeros(taken.shape), where=taken > 0)
    classes = (taken > 0).sum(axis=1)
    return np.divide(of_class.sum(axis=1), classes, out=np.full(len(draws), np.nan), where=classes > 0)
