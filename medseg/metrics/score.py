"""Scores of one case: a row for each structure, and the counts that pooling adds up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.labels import IGNORE, LabelTable
from medseg.metrics import boundary, overlap, policy, roc, surface

VOLUME_METRICS = ("dice", "iou", "precision", "recall", "hd95", "nsd", "assd", "volume_error")
"""What volumes are scored with; conf/metric/full.yaml."""
SCENE_METRICS = ("iou", "f1", "precision", "recall", "miou", "accuracy", "boundary_iou")
"""What scenes and images are scored with; conf/metric/scene.yaml."""
METRICS = tuple(dict.fromkeys((*VOLUME_METRICS, *SCENE_METRICS)))
"""Every metric there is."""

WHOLE = ("miou", "accuracy")
"""Metrics of a case as a whole: they have one value a case, not one a class."""
ALL = "(all)"
"""What stands for the class in the row of a case's ``WHOLE`` metrics."""
_SURFACE = ("hd95", "nsd", "assd")
_PLACED = (*_SURFACE, "boundary_iou")  # need to know where the cells are, not only how many


class Tally(NamedTuple):
    """Counts of cells of one case, which add up over cases.

    Attributes:
        table: What ``overlap.confusion`` gives: label by prediction.
        bands: (intersection, union) of the contour bands of each target; zeros if nobody asked.
        odds: Of each target, what ``roc.tally_odds`` gives; zeros without probabilities.
    """

    table: Int[np.ndarray, "k k"]
    bands: Int[np.ndarray, "t 2"]
    odds: Int[np.ndarray, "t 2 bins"]


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
    metrics: Sequence[str] = VOLUME_METRICS,
    nsd_tolerance: float = 1.0,
    boundary_width: float = 0.02,
    prob: Float[np.ndarray, "k *s"] | None = None,
) -> tuple[list[dict[str, Any]], Tally]:
    """Scores of one case: a row for each of ``labels.targets``, and one for the case as a whole.

    Ignored and invalid cells belong to no structure, predicted or labelled.

    Args:
        case: Case identifier.
        pred: Training index of each cell, in [0, k); anything where the cell is not valid.
        label: Training index of each cell, or ``IGNORE``; likewise.
        valid: False where a cell does not count.
        spacing: Distance between cell centres along each axis.
        unit: Of the spacing: ``mm``, ``m`` or ``px``.
        labels: What the indices mean, and which structures are scored.
        metrics: Some of ``METRICS``.
        nsd_tolerance: Surface distance that is no error, in ``unit``.
        boundary_width: Of the band along a contour; see ``boundary.cells_of``.
        prob: Probability of each class (with regions, of each region), for ``auc``; None leaves that out.

    Returns:
        Rows ``{"case", "class", metric: value}``; metrics named as ``column`` says, NaN where the
        miss policy leaves the case out. And the counts behind them.
    """
    counted = valid & (label != IGNORE)
    pred = np.where(valid, pred, 0)
    if pred.min(initial=0) < 0 or pred.max(initial=0) >= labels.n_classes:
        raise ValueError(f"{case}: predicted indices must lie in [0, {labels.n_classes}), got {np.unique(pred)}")
    table = overlap.confusion(pred, label, counted, labels.n_classes)
    width = boundary.cells_of(boundary_width, pred.shape)
    bands = np.zeros((len(labels.targets), 2), dtype=np.int64)
    odds = np.zeros((len(labels.targets), 2, roc.BINS if prob is not None else 0), dtype=np.int64)
    rows = []
    for position, (name, members) in enumerate(labels.targets):
        masks = None
        if any(m in _PLACED for m in metrics):
            masks = (np.isin(pred, members) & counted, np.isin(label, members) & counted)
            if "boundary_iou" in metrics:
                bands[position] = boundary.boundary_counts(*masks, width)
        n = overlap.counts(table, members)
        values = _values(metrics, n, bands[position], masks, spacing=spacing, shape=pred.shape, tolerance=nsd_tolerance)
        if prob is not None:
            chance = prob[position] if labels.regions else prob[members[0]]
            odds[position] = roc.tally_odds(chance, np.isin(label, members), counted)
            values["auc"] = float(roc.auc(odds[position]))
        rows.append({"case": case, "class": name} | {column(m, unit, pred.ndim): v for m, v in values.items()})
    whole = {"miou": overlap.mean_iou(table, overlap.groups_of(labels)), "accuracy": overlap.accuracy(table)}
    if any(m in WHOLE for m in metrics):
        rows.append({"case": case, "class": ALL} | {m: whole[m] for m in metrics if m in WHOLE})
    return rows, Tally(table, bands, odds)


def _values(
    metrics: Sequence[str],
    n: overlap.Counts,
    bands: Int[np.ndarray, "2"],
    masks: tuple[np.ndarray, np.ndarray] | None,
    *,
    spacing: Sequence[float],
    shape: Sequence[int],
    tolerance: float,
) -> dict[str, float]:
    """Metrics of one structure: as the miss policy says where label or prediction lack it, else measured."""
    wanted = [m for m in metrics if m not in WHOLE]
    volume = overlap.volume_error(n, spacing)
    if n.tp + n.fp + n.fn == 0:
        return dict.fromkeys(wanted, math.nan)
    if n.tp + n.fp == 0 or n.tp + n.fn == 0:
        diagonal = math.dist((0,) * len(shape), [cells * step for cells, step in zip(shape, spacing, strict=True)])
        return {m: policy.cost_of(m, missed=n.fp == 0, diagonal=diagonal, volume=volume) for m in wanted}
    values = {
        "dice": overlap.dice(n),
        "f1": overlap.dice(n),
        "iou": overlap.iou(n),
        "precision": overlap.precision(n),
        "recall": overlap.recall(n),
        "volume_error": volume,
    }
    if "boundary_iou" in wanted:
        values["boundary_iou"] = float(bands[0] / bands[1])
    if masks is not None and any(m in _SURFACE for m in wanted):
        distances = surface.surface_distances(*masks, spacing)
        values |= {
            "hd95": surface.hd95(distances),
            "nsd": surface.nsd(distances, tolerance),
            "assd": surface.assd(distances),
        }
    return {m: values[m] for m in wanted}
