"""Balanced accuracy of a case over its classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.labels import LabelTable
from medseg.metrics import overlap
from medseg.metrics.metric import CaseMetric, Pooled, ratio
from medseg.metrics.miou import groups_of
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class BalancedAccuracy(CaseMetric, Pooled):
    """Mean recall over every class that the label has, the background too; with regions, over these.

    A missed class counts with recall 0. A false class has no recall of its own: it costs that of the classes whose
    cells it takes.
    """

    name = "balanced_accuracy"
    title = "balanced accuracy"
    description = "mean recall over every class, with the background, that the label has"

    def stated(self, labels: LabelTable) -> str:
        """What it is a mean of."""
        what = "region" if labels.regions else "class, with the background," if labels.background else "class"
        return f"mean recall over every {what} that the label has (as balanced_accuracy_score of scikit-learn)"

    def measure(self, measured: CaseCells) -> float:
        """In [0, 1]; NaN without a counted cell."""
        recalls = self.from_parts(self.parts(measured))
        defined = recalls[~np.isnan(recalls)]
        return float(ratio(float(defined.sum()), len(defined)))

    def parts(self, measured: CaseCells) -> Int[np.ndarray, "g 2"]:
        """Of each class its right cells and its labelled cells, 0 where the case does not annotate it."""
        counts = [overlap.counts(measured.confusion, members) for members in groups_of(measured.labels)]
        annotated = [[measured.annotates(i)] for i in range(len(counts))]
        return np.array([(n.tp, n.tp + n.fn) for n in counts], dtype=np.int64) * annotated

    def from_parts(self, parts: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """Recall of each class."""
        return ratio(parts[..., 0], parts[..., 1])
