"""Scores of several predictions of the same cases, compared in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from medseg.metrics.accumulate import CaseScores
from medseg.metrics.metric import ClassMetric, Metric, Pooled
from medseg.metrics.paired_draws import PairedDraws, Statistic, corrected, difference
from medseg.metrics.pooled import mean_of_defined
from medseg.metrics.score import WHOLE_CASE
from medseg.metrics.summary import mean_of_class_means

_METHOD = {
    "difference": "the value of the second prediction less that of the first",
    "p": "permutation test of no difference, which exchanges the two predictions of a group, two-sided",
    "p_corrected": "by Holm, over the classes and predictions of a metric; of the summary over the predictions",
    "detectable": "smallest difference that such a test set shows (5 %, two-sided) in 80 of 100 cases",
}


def compared(
    scores: Mapping[str, CaseScores], groups: Mapping[str, str] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Differences of each prediction to the first one, and ranks.

    Args:
        scores: By name of the prediction, of the same cases, with the same metrics.
        groups: Group of each case, such as its patient, whose cases are not independent; None: all are.
        seed: Random seed of the draws.

    Returns:
        The content of ``comparison.json``: ``predictions``, number of ``cases`` and ``groups``, ``differences`` (rows
        of ``metric``, ``class`` or null for the summary, ``of``, ``to``, the mean of each, and what ``Difference``
        and ``corrected`` give; null where one has no value), ``ranks`` by metric and prediction (mean over cases, 1
        is the best; share of cases in which it is the only best) and ``policy``.
    """
    first, *others = scores
    cases = scores[first].cases
    draws = PairedDraws.of([groups[case] if groups else case for case in cases], seed=seed)
    rows = [
        {"metric": key, "class": name, "of": other, "to": first, **_row(statistic, draws)}
        for other in others
        for key, name, statistic in _statistics(scores[first], scores[other], cases)
    ]
    least = 1 / len(draws.exchanged)
    stated = f"bootstrap over {'groups' if groups else 'cases'}, {len(draws.taken)} resamples, seed {seed}"
    return {
        "predictions": list(scores),
        "cases": len(cases),
        "groups": draws.groups if groups else None,
        "differences": _with_correction(rows),
        "ranks": {metric.name: _ranks(scores, metric, cases) for metric in scores[first].metrics},
        "policy": _METHOD | {"ci95": stated, "least_p": max(least, 2.0 ** (1 - draws.groups))},
    }


def _row(statistic: Statistic, draws: PairedDraws) -> dict[str, Any]:
    both = difference(statistic, draws)
    if both is None:
        return {"difference": None, "ci95": None, "p": None, "detectable": None}
    return both.to_dict()


def _with_correction(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ``p_corrected``: classes of a metric together, and summaries of it."""
    families: dict[tuple[str, bool], dict[str, float]] = {}
    for number, row in enumerate(rows):
        if row["p"] is not None:
            families.setdefault((row["metric"], row["class"] is None), {})[str(number)] = row["p"]
    by_row = dict(chain.from_iterable(corrected(family).items() for family in families.values()))
    return [row | {"p_corrected": by_row.get(str(number))} for number, row in enumerate(rows)]


def _statistics(
    first: CaseScores, second: CaseScores, cases: Sequence[str]
) -> Iterator[tuple[str, str | None, Statistic]]:
    """Key, class (None: the summary) and statistic of each metric; pooled where the scores pool it."""
    for metric in first.metrics:
        key = first.key_of(metric)
        classes = [name for name, _ in first.labels.targets] if isinstance(metric, ClassMetric) else []
        if first.pooled and isinstance(metric, Pooled):
            of_all, of_columns = _of_parts(metric, first, second, cases)
        else:
            values = np.vstack([_values(one, key, cases, classes or [WHOLE_CASE]) for one in (first, second)])
            of_all, of_columns = _mean(values), [_mean(values[:, [i]]) for i in range(values.shape[1])]
        yield key, None, of_all
        yield from ((key, name, of_class) for name, of_class in zip(classes, of_columns, strict=False))


def _of_parts(
    metric: Pooled, first: CaseScores, second: CaseScores, cases: Sequence[str]
) -> tuple[Statistic, list[Statistic]]:
    """The pooled value of all classes or groups, and that of each."""
    parts = np.stack([one.records[case].parts[metric.name] for one in (first, second) for case in cases])
    numbers = parts.astype(np.float64)
    return _pooled(metric, numbers), [_pooled(metric, numbers[:, [i]]) for i in range(numbers.shape[1])]


def _pooled(metric: Pooled, parts: Float[np.ndarray, "m g *q"]) -> Statistic:
    return lambda draws: mean_of_defined(metric.resampled(draws, parts))


def _mean(values: Float[np.ndarray, "m k"]) -> Statistic:
    return lambda draws: mean_of_class_means(values, draws)


def _values(scores: CaseScores, key: str, cases: Sequence[str], names: Sequence[str]) -> Float[np.ndarray, "n k"]:
    """Values of a metric by case and class; NaN where there is none."""
    by_row = {(row["case"], row["class"]): row.get(key, np.nan) for row in scores.rows}
    return np.array([[by_row.get((case, name), np.nan) for name in names] for case in cases], dtype=np.float64)


def _ranks(scores: Mapping[str, CaseScores], metric: Metric, cases: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean rank of each prediction over the cases in which all have a value (mean over classes), and share of wins."""
    names = [name for name, _ in next(iter(scores.values())).labels.targets]
    classes = names if isinstance(metric, ClassMetric) else [WHOLE_CASE]
    of_cases = [_case_means(_values(one, one.key_of(metric), cases, classes)) for one in scores.values()]
    values = metric.badness(np.array(of_cases))
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        return {}
    ranks = stats.rankdata(values, axis=0)
    return {
        name: {"mean": float(own.mean()), "best": float((own == 1).mean()), "cases": int(own.size)}
        for name, own in zip(scores, ranks, strict=True)
    }


def _case_means(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Mean over the classes that have a value; NaN if none has."""
    present = ~np.isnan(values)
    total, number = np.where(present, values, 0).sum(axis=1), present.sum(axis=1)
    return np.divide(total, number, out=np.full(len(values), np.nan), where=number > 0)
