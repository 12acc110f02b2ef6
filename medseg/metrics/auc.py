"""Area under the ROC curve of the probability of a structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from medseg.labels import LabelTable
from medseg.metrics import roc
from medseg.metrics.metric import ClassMetric, Pooled
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class Auc(ClassMetric, Pooled):
    """How often a cell inside a structure has a larger probability than a cell outside; see ``roc.area``.

    It has no cost of a missed structure, as it does not depend on the decision for a class.
    """

    name = "auc"
    title = "AUC"
    description = (
        "area under the ROC curve of the probability of each class against the rest; equal probabilities "
        "(in 2048 steps of log-odds) count half; null where every counted cell, or none, is of the class"
    )
    empty = None
    needs_prob = True

    def stated(self, labels: LabelTable) -> str:
        """What it is, of classes or of regions."""
        return self.description.replace("class", "region") if labels.regions else self.description

    @property
    def ranks_cases(self) -> bool:
        """Not: a case whose structure is missed may have a high value."""
        return False

    def measure(self, measured: Structure) -> float:
        """In [0, 1]; NaN where every counted cell, or none, is inside."""
        return float(roc.area(measured.score_histogram))

    def parts(self, measured: Structure) -> Int[np.ndarray, "2 bins"]:
        """Cells outside and inside, by probability."""
        return measured.score_histogram

    def from_parts(self, parts: Real[np.ndarray, "*n 2 bins"]) -> Float[np.ndarray, "*n"]:
        """The areas."""
        return roc.area(parts)

    def present(self, parts: Int[np.ndarray, "n g 2 bins"]) -> Bool[np.ndarray, "n g"]:
        """Whether all cases together have an area, and the case has cells inside."""
        return ~np.isnan(roc.area(parts.sum(axis=0))) & (parts[:, :, 1].sum(axis=-1) > 0)

    def resampled(
        self, draws: Float[np.ndarray, "r n"], parts: Float[np.ndarray, "n g 2 bins"]
    ) -> Float[np.ndarray, "r g"]:
        """One structure after the other: the histograms of 2000 draws take 64 MB for each."""
        return np.stack([self.from_parts(np.tensordot(draws, of_one, axes=1)) for of_one in parts.swapaxes(0, 1)]).T
