"""Expected calibration error of the probability of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.labels import LabelTable
from medseg.metrics import probabilities
from medseg.metrics.ece import check_bins
from medseg.metrics.metric import ClassMetric, Pooled, setting
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class ClassEce(ClassMetric, Pooled):
    """How far the probability of a class is from the share of cells that are of it, in bins; over all counted cells.

    It has no cost of a missed structure, as it does not depend on the decision for a class. A class that a case lacks
    has a value: the mean of what is promised for it.

    Attributes:
        bins: Number of bins of equal width in [0, 1].

    References:
        Kull et al., Beyond temperature scaling (classwise ECE), NeurIPS 2019; the background is not scored here.
    """

    name = "class_ece"
    title = "class-wise ECE"
    description = "expected calibration error of the probability of each class, over all cells, in bins"
    larger_is_better = False
    empty = None
    needs_prob = True

    bins: int = setting(15, key="calibration_bins")

    def __post_init__(self) -> None:
        check_bins(self.bins)

    def stated(self, labels: LabelTable) -> str:
        """What it is, of classes or regions, with the number of bins."""
        what = "region" if labels.regions else "class"
        return f"expected calibration error of the probability of each {what}, over all cells, in {self.bins} bins"

    def measure(self, measured: Structure) -> float:
        """In [0, 1]; NaN without a counted cell."""
        return float(self.from_parts(self.parts(measured)[None])[0])

    def parts(self, measured: Structure) -> Float[np.ndarray, "bins 3"]:
        """See ``probabilities.reliability``; 0 where the class is not annotated."""
        case, bins = measured.case, self.bins
        tables = case.shared(("class_reliability", bins), lambda: probabilities.class_reliability(case, bins))
        return tables[measured.output] * measured.is_annotated

    def from_parts(self, parts: Float[np.ndarray, "*n bins 3"]) -> Float[np.ndarray, "*n"]:
        """The errors."""
        return probabilities.calibration_error(parts)

    @property
    def has_detail(self) -> bool:
        """Whether there is a table: always."""
        return True

    def detail(self, parts: Float[np.ndarray, "bins 3"]) -> list[dict[str, object]]:
        """The reliability diagram."""
        return probabilities.reliability_rows(parts)
