"""Pooled scores: the cells of all cases are counted together, as is usual for scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from medseg.labels import LabelTable
from medseg.metrics import overlap
from medseg.metrics.roc import auc
from medseg.metrics.score import WHOLE, Tally
from medseg.metrics.summary import entry

POOLED = ("dice", "f1", "iou", "boundary_iou", "precision", "recall", "auc", *WHOLE)
"""Metrics that come from counts, so that they can be pooled; distances cannot."""


class Ratio(NamedTuple):
    """Counts of each case (first axis) and group of classes (second): a metric is ``part / whole`` of their sums.

    Attributes:
        part: The counts above the line.
        whole: Those below it. 0 gives 0 (a missed or a false structure), unless the group is absent.
        present: Cells of the group in label or prediction; a group with 0 of them has no value.
    """

    part: Int[np.ndarray, "n g"]
    whole: Int[np.ndarray, "n g"]
    present: Int[np.ndarray, "n g"]


def pool(
    tallies: Sequence[Tally], metrics: Sequence[str], labels: LabelTable, *, resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Pooled values as ``summary`` and ``classes`` of ``metrics.json`` have them.

    In the summary, ``miou`` is the mean over every class (see ``overlap.groups_of``) and the others are
    means over the scored targets; ``classes`` beside them is how many entered, for a class that is in
    neither label nor prediction of any case has no value. ``cases`` is how many cases have the class.
    ``ci95`` comes from drawing cases anew and pooling again. ``auc`` of a class has no value where every cell,
    or none, is of the class.

    Args:
        tallies: Counts of each case; one at least.
        metrics: Some of ``POOLED``.
        labels: Which structures are scored.
        resamples: Number of draws.
        seed: Of the draws.
    """
    tables, bands, odds = (np.stack(parts) for parts in zip(*tallies, strict=True))
    names, targets = zip(*labels.targets, strict=True)
    ratios = {m: _ratio(m, tables, bands, targets, overlap.groups_of(labels)) for m in metrics if m != "auc"}

    def value(ratio: Ratio) -> dict[str, Any]:
        entered = int(ratio.present.any(axis=1).sum())
        return entry(_pooling(ratio), n=len(tables), entered=entered, resamples=resamples, seed=seed)

    summary = {m: value(r) | ({} if m == "accuracy" else {"classes": _count(r)}) for m, r in ratios.items()}
    single = {m: r for m, r in ratios.items() if m not in WHOLE}
    classes = {
        name: {m: value(Ratio(*(counts[:, [i]] for counts in r))) for m, r in single.items()}
        for i, name in enumerate(names)
    }
    if "auc" in metrics:
        summary["auc"] = _area(odds, resamples, seed) | {"classes": int((~np.isnan(auc(odds.sum(axis=0)))).sum())}
        for i, name in enumerate(names):
            classes[name]["auc"] = _area(odds[:, [i]], resamples, seed)
    return summary, classes


def _area(odds: Int[np.ndarray, "n t 2 bins"], resamples: int, seed: int) -> dict[str, Any]:
    """Mean over the targets that have one of the area under the ROC curve of all cases' cells."""
    counts = odds.astype(np.float64)  # exact up to 2^53 cells

    def mean_of_targets(draws: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        areas = np.stack([auc(np.tensordot(draws, of_target, axes=1)) for of_target in counts.swapaxes(0, 1)])
        known = ~np.isnan(areas)
        entered = known.sum(axis=0)
        total = np.where(known, areas, 0.0).sum(axis=0)
        return np.divide(total, entered, out=np.full(len(draws), np.nan), where=entered > 0)

    has = ~np.isnan(auc(odds.sum(axis=0))) & (odds[:, :, 1].sum(axis=-1) > 0)
    return entry(mean_of_targets, n=len(odds), entered=int(has.any(axis=1).sum()), resamples=resamples, seed=seed)


def _ratio(
    metric: str,
    tables: Int[np.ndarray, "n k k"],
    bands: Int[np.ndarray, "n t 2"],
    targets: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
) -> Ratio:
    if metric == "accuracy":
        right, cells = tables.trace(axis1=1, axis2=2)[:, None], tables.sum(axis=(1, 2))[:, None]
        return Ratio(right, cells, cells)
    tp, fp, fn = _counts(tables, groups if metric == "miou" else targets)
    either = tp + fp + fn
    part, whole = {
        "dice": (2 * tp, tp + either),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "boundary_iou": (bands[..., 0], bands[..., 1]),
    }.get("dice" if metric == "f1" else metric, (tp, either))  # iou and miou
    return Ratio(part, whole, either)


def _counts(
    tables: Int[np.ndarray, "n k k"], groups: Sequence[Sequence[int]]
) -> tuple[Int[np.ndarray, "n g"], Int[np.ndarray, "n g"], Int[np.ndarray, "n g"]]:
    """tp, fp and fn of each case and group; see ``overlap.counts``."""
    of_case = [[overlap.counts(table, members) for members in groups] for table in tables]
    counts = np.array(of_case, dtype=np.int64).reshape(len(tables), len(groups), 3)
    return counts[..., 0], counts[..., 1], counts[..., 2]


def _pooling(ratio: Ratio) -> Callable[[Int[np.ndarray, "r n"]], Float[np.ndarray, " r"]]:
    part, whole, present = (counts.astype(np.float64) for counts in ratio)  # exact up to 2^53 cells

    def mean_of_groups(draws: Int[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        parts, wholes, there = (draws @ counts for counts in (part, whole, present))
        values = np.divide(parts, wholes, out=np.zeros(parts.shape), where=wholes > 0)
        groups = (there > 0).sum(axis=1)
        return np.divide(values.sum(axis=1), groups, out=np.full(len(draws), np.nan), where=groups > 0)

    return mean_of_groups


def _count(ratio: Ratio) -> int:
    return int(ratio.present.any(axis=0).sum())
