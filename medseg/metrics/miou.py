"""Mean IoU of a case over its classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.labels import LabelTable
from medseg.metrics import overlap
from medseg.metrics.iou import Iou
from medseg.metrics.metric import CaseMetric, Pooled
from medseg.metrics.structure import CaseCells

_IOU = Iou()


@dataclass(frozen=True)
class MeanIou(CaseMetric, Pooled):
    """Mean IoU over every class that label or prediction have, the background too; with regions, over these."""

    name = "miou"
    title = "mean IoU"
    description = "mean IoU over every class, with the background, that label or prediction have"

    def stated(self, labels: LabelTable) -> str:
        """What it is a mean of."""
        what = "region" if labels.regions else "class, with the background," if labels.background else "class"
        return f"mean IoU over every {what} that label or prediction have (as the macro mean of torchmetrics)"

    def measure(self, measured: CaseCells) -> float:
        """In [0, 1]; NaN without a counted cell."""
        groups = groups_of(measured.labels)
        return mean_iou(measured.confusion, [own for i, own in enumerate(groups) if measured.annotates(i)])

    def parts(self, measured: CaseCells) -> Int[np.ndarray, "g 4"]:
        """The counts of each class, 0 where the case does not annotate it."""
        groups = groups_of(measured.labels)
        counts = [overlap.counts(measured.confusion, members) for members in groups]
        annotated = [[measured.annotates(i)] for i in range(len(groups))]
        return np.array(counts, dtype=np.int64) * annotated

    def from_parts(self, parts: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
        """IoU of each class."""
        return _IOU.from_parts(parts)


def mean_iou(table: Int[np.ndarray, "k k"], groups: Sequence[Sequence[int]]) -> float:
    """Mean IoU over the groups of classes that label or prediction have; NaN if they have none.

    Args:
        table: Cells by labelled (row) and predicted (column) class.
        groups: Training indices of each group; see ``groups_of``.
    """
    values = [_IOU.value(overlap.counts(table, members)) for members in groups]
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def groups_of(labels: LabelTable) -> tuple[tuple[int, ...], ...]:
    """What the mean IoU is a mean of: every class, the background too; of a table of regions, the regions."""
    if labels.regions:
        return tuple(members for _, members in labels.targets)
    return tuple((i,) for i in range(labels.n_classes))
