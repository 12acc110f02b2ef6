"""Scores of whole cases: one row per case and target, and their means with confidence intervals."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.errors import BadInput
from medseg.labels import IGNORE, LabelTable
from medseg.metrics import overlap, policy, surface

METRICS = ("dice", "iou", "precision", "recall", "hd95", "nsd", "assd", "volume_error")
"""Every metric there is, in the order of the output."""
_SURFACE = ("hd95", "nsd", "assd")
_MEAN = "mean over cases of each class, then over classes; cases where a value is null do not enter"


def column(metric: str, unit: str, ndim: int) -> str:
    """Name of a metric in rows and files, with its unit where it has one.

    Example:
        >>> column("hd95", "mm", 3), column("volume_error", "mm", 3), column("dice", "mm", 3)
        ('hd95_mm', 'volume_error_mm3', 'dice')
    """
    suffix = {"hd95": f"_{unit}", "assd": f"_{unit}", "volume_error": f"_{unit}{ndim}"}
    return metric + suffix.get(metric, "")


def score_case(
    case: str,
    pred: Int[np.ndarray, " *s"],
    label: Int[np.ndarray, " *s"],
    valid: Bool[np.ndarray, " *s"],
    *,
    spacing: Sequence[float],
    unit: str,
    labels: LabelTable,
    metrics: Sequence[str] = METRICS,
    nsd_tolerance: float = 1.0,
) -> list[dict[str, Any]]:
    """Scores of one case: a row for each of ``labels.targets``.

    Ignored and invalid cells belong to no structure, predicted or labelled.

    Args:
        case: Case identifier.
        pred: Training index of each cell, in [0, k).
        label: Training index of each cell, or ``IGNORE``.
        valid: False where a cell does not count.
        spacing: Distance between cell centres along each axis.
        unit: Of the spacing: ``mm``, ``m`` or ``px``.
        labels: What the indices mean, and which structures are scored.
        metrics: Some of ``METRICS``.
        nsd_tolerance: Surface distance that is no error, in ``unit``.

    Returns:
        Rows ``{"case", "class", metric: value}``; metrics named as ``column`` says, NaN where the
        miss policy leaves the case out.
    """
    counted = valid & (label != IGNORE)
    if pred.min(initial=0) < 0 or pred.max(initial=0) >= labels.n_classes:
        raise ValueError(f"{case}: predicted indices must lie in [0, {labels.n_classes}), came {np.unique(pred)}")
    table = overlap.confusion(pred, label, counted, labels.n_classes)
    diagonal = math.dist((0,) * pred.ndim, [n * step for n, step in zip(pred.shape, spacing, strict=True)])
    rows = []
    for name, members in labels.targets:
        n = overlap.counts(table, members)
        if n.tp + n.fp == 0 or n.tp + n.fn == 0:
            values = _values_of_a_miss(metrics, n, spacing, diagonal)
        else:
            values = _values_of_overlap(metrics, n, spacing)
            if any(m in _SURFACE for m in metrics):
                masks = (np.isin(pred, members) & counted, np.isin(label, members) & counted)
                values |= _values_of_surface(surface.surface_distances(*masks, spacing), nsd_tolerance)
        rows.append({"case": case, "class": name} | {column(m, unit, pred.ndim): values[m] for m in metrics})
    return rows


def _values_of_a_miss(
    metrics: Sequence[str], n: overlap.Counts, spacing: Sequence[float], diagonal: float
) -> dict[str, float]:
    if n.fp == n.fn == 0:
        return dict.fromkeys(metrics, math.nan)
    volume = overlap.volume_error(n, spacing)
    return {m: policy.cost_of(m, missed=n.fp == 0, diagonal=diagonal, volume=volume) for m in metrics}


def _values_of_overlap(metrics: Sequence[str], n: overlap.Counts, spacing: Sequence[float]) -> dict[str, float]:
    values = {
        "dice": overlap.dice(n),
        "iou": overlap.iou(n),
        "precision": overlap.precision(n),
        "recall": overlap.recall(n),
        "volume_error": overlap.volume_error(n, spacing),
    }
    return {m: values[m] for m in metrics if m in values}


def _values_of_surface(distances: surface.SurfaceDistances, tolerance: float) -> dict[str, float]:
    return {
        "hd95": surface.hd95(distances),
        "nsd": surface.nsd(distances, tolerance),
        "assd": surface.assd(distances),
    }


def summarise(
    rows: Sequence[Mapping[str, Any]], *, stated: Mapping[str, Any], resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The content of ``metrics.json``.

    ``classes`` has the mean over cases of each class. ``summary`` has the mean of those class means,
    so that a class that few cases have weighs as much as the others (nnU-Net's foreground mean).
    ``cases`` beside each mean is how many cases entered it. ``ci95`` is the interval between the 2.5th
    and the 97.5th percentile of the mean when cases are drawn anew with replacement; null with fewer
    than two cases. Every metric sees the same draws.

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
    return {
        "summary": {m: _mean(values, resamples, seed) for m, values in by_metric.items()},
        "classes": {
            k: {m: _mean(values[:, [i]], resamples, seed) for m, values in by_metric.items()}
            for i, k in enumerate(classes)
        },
        "policy": dict(stated),
        "cases": [{key: _known(value) for key, value in row.items()} for row in unique.values()],
    }


def _mean(values: Float[np.ndarray, "n k"], resamples: int, seed: int) -> dict[str, Any]:
    n = len(values)
    entered = int((~np.isnan(values)).any(axis=1).sum())
    interval = None
    if entered > 1:
        draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
        means = _mean_of_class_means(values, draws)
        interval = np.percentile(means[~np.isnan(means)], [2.5, 97.5]).tolist()
    mean = float(_mean_of_class_means(values, np.ones((1, n)))[0])
    return {"mean": _known(mean), "ci95": interval, "cases": entered}


def _mean_of_class_means(values: Float[np.ndarray, "n k"], draws: np.ndarray) -> Float[np.ndarray, " r"]:
    """Mean of the class means when case i is taken ``draws[r, i]`` times; NaN if no class has a value."""
    known = ~np.isnan(values)
    taken = draws @ known
    of_class = np.divide(draws @ np.where(known, values, 0.0), taken, out=np.zeros(taken.shape), where=taken > 0)
    present = (taken > 0).sum(axis=1)
    return np.divide(of_class.sum(axis=1), present, out=np.full(len(draws), np.nan), where=present > 0)


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


class CaseScores:
    """Rows of the cases scored so far, and the settings they are scored with.

    Attributes:
        labels: What is scored.
        metrics: Some of ``METRICS``.
        nsd_tolerance: In the unit of the grids.
        resamples: Draws behind each confidence interval.
        seed: Of the draws.
        rows: What ``score_case`` gave, JSON-able but for NaN; rows of other processes may be added.
    """

    def __init__(
        self,
        labels: LabelTable,
        *,
        metrics: Sequence[str] = METRICS,
        nsd_tolerance: float = 1.0,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        unknown = [m for m in metrics if m not in METRICS]
        if unknown or not metrics:
            raise BadInput(f"metrics {list(metrics)}: {unknown or 'none'} came, expected some of {list(METRICS)}")
        if not nsd_tolerance >= 0:
            raise BadInput(f"metrics: nsd_tolerance must be a distance >= 0, came {nsd_tolerance}")
        self.labels, self.metrics, self.nsd_tolerance = labels, tuple(metrics), nsd_tolerance
        self.resamples, self.seed = resamples, seed
        self.rows: list[dict[str, Any]] = []

    def add(
        self,
        case: str,
        pred: Int[np.ndarray, " *s"],
        label: Int[np.ndarray, " *s"],
        valid: Bool[np.ndarray, " *s"],
        *,
        spacing: Sequence[float],
        unit: str,
    ) -> list[dict[str, Any]]:
        """Score one case (see ``score_case``), keep its rows, and give them."""
        rows = score_case(
            case, pred, label, valid, spacing=spacing, unit=unit, labels=self.labels,
            metrics=self.metrics, nsd_tolerance=self.nsd_tolerance,
        )  # fmt: skip
        self.rows += rows
        return rows

    def result(self) -> dict[str, Any]:
        """The content of ``metrics.json`` for the rows so far; see ``summarise``."""
        stated = policy.describe(self.metrics)
        if "nsd" in stated:
            stated["nsd"]["tolerance"] = self.nsd_tolerance
        stated |= {"mean": _MEAN, "ci95": f"bootstrap over cases, {self.resamples} resamples, seed {self.seed}"}
        return summarise(self.rows, stated=stated, resamples=self.resamples, seed=self.seed)

    def reset(self) -> None:
        """Forget all rows."""
        self.rows = []


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``metrics.json`` and ``cases.csv`` (a null is an empty field) into ``folder``, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(key for row in result["cases"] for key in row)) or ["case", "class"]
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(result["cases"])
    write_text(folder / "cases.csv", text.getvalue())
    write_text(folder / "metrics.json", json.dumps(result, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or absent, never half-written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
