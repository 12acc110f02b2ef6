"""Matthews correlation coefficient of a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.metrics.metric import CountMetric
from medseg.metrics.overlap import Counts
from medseg.metrics.policy import WORST_0


@dataclass(frozen=True)
class Mcc(CountMetric):
    r"""Correlation of predicted and labelled cells, which the cells of the background enter too.

    .. math:: (TP \cdot TN - FP \cdot FN) / \sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}

    1 is perfect, 0 is chance, -1 is the opposite of the label. Where the root is 0 (label or prediction has cells of
    one kind only), the value is 1 without an error and 0 with one, so a missed or a false structure costs 0, the
    value of chance. scikit-learn gives 0 without an error too.

    References:
        Chicco and Jurman, The advantages of the Matthews correlation coefficient over F1 score and accuracy, 2020.
    """

    name = "mcc"
    title = "MCC"
    description = "Matthews correlation coefficient of predicted and labelled cells; 0 is chance"
    range = (-1.0, 1.0)
    empty = WORST_0

    def value(self, n: Counts) -> Any:
        """The coefficient in [-1, 1], in float64: the product of four counts of cells overflows an integer."""
        tp, fp, fn, tn = (np.asarray(count, dtype=np.float64) for count in n)
        root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        undefined = np.where(fp + fn == 0, 1.0, 0.0)
        return np.divide(tp * tn - fp * fn, root, out=undefined, where=root > 0)
