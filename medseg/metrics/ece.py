"""Expected calibration error of decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.metrics import probabilities
from medseg.metrics.metric import CaseMetric, Pooled, setting
from medseg.metrics.structure import CaseCells


@dataclass(frozen=True)
class Ece(CaseMetric, Pooled):
    """How far the probability of the decided class is from the share of decisions that are right, in bins.

    Of the most probable class of each cell, the background too (top-label); with regions, of in or out of each region.
    Most cells of an image are background and nearly certain, so that it is small where the rest is badly calibrated;
    ``class_ece`` looks at single classes.

    Attributes:
        bins: Number of bins of equal width in [0, 1].

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017.
    """

    name = "ece"
    title = "ECE"
    description = "expected calibration error of the most probable class: distance of probability and accuracy, in bins"
    larger_is_better = False
    counts_classes = False
    needs_prob = True

    bins: int = setting(15, key="calibration_bins")

    def __post_init__(self) -> None:
        check_bins(self.bins)

    def stated(self, labels: LabelTable) -> str:
        """What it is, with the number of bins."""
        what = "in or out of each region" if labels.regions else "the most probable class"
        return f"expected calibration error of {what}: distance of probability and accuracy, in {self.bins} bins"

    def measure(self, measured: CaseCells) -> float:
        """In [0, 1]; NaN without a counted cell."""
        return float(self.from_parts(self.parts(measured))[0])

    def parts(self, measured: CaseCells) -> Float[np.ndarray, "1 bins 3"]:
        """See ``probabilities.reliability``."""
        return measured.shared(
            ("top_reliability", self.bins), lambda: probabilities.top_reliability(measured, self.bins)
        )[None]

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


def check_bins(bins: object) -> None:
    """Raise on what is no number of bins."""
    if isinstance(bins, bool) or not isinstance(bins, int) or not 1 <= bins <= 1000:
        raise InputError(f"metrics: calibration_bins must be a number of bins from 1 to 1000, got {bins}")
