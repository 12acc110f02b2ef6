"""The miss policy: what a missed, a false and an absent structure cost in each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medseg.labels import LabelTable

DIAGONAL = "diagonal of the case's grid"
VOLUME = "its own volume"


@dataclass(frozen=True)
class Cost:
    """Value of a metric where a structure is missing from the label, the prediction or both.

    Attributes:
        missed: Labelled, nothing predicted.
        false: Predicted, nothing labelled.
        both_empty: None: the case does not enter the mean.
    """

    missed: float | str
    false: float | str
    both_empty: float | None = None


COSTS: Mapping[str, Cost] = {
    "dice": Cost(0.0, 0.0),
    "f1": Cost(0.0, 0.0),
    "iou": Cost(0.0, 0.0),
    "boundary_iou": Cost(0.0, 0.0),
    "precision": Cost(0.0, 0.0),
    "recall": Cost(0.0, 0.0),
    "nsd": Cost(0.0, 0.0),
    "hd95": Cost(DIAGONAL, DIAGONAL),
    "assd": Cost(DIAGONAL, DIAGONAL),
    "volume_error": Cost(VOLUME, VOLUME),
}
"""Cost by metric. A missed or a false structure gets the worst value that its case allows, so that a
model is not better for having predicted nothing; volume_error needs no rule, its formula gives it."""


def cost_of(metric: str, *, missed: bool, diagonal: float, volume: float) -> float:
    """Value of ``metric`` for a structure that is missed, or else false.

    Args:
        metric: Name in ``COSTS``.
        missed: Labelled but not predicted; False means predicted but not labelled.
        diagonal: Length of the diagonal of the case's grid, the largest distance possible.
        volume: Volume of the one structure there is.
    """
    cost = COSTS[metric].missed if missed else COSTS[metric].false
    return {DIAGONAL: diagonal, VOLUME: volume}[cost] if isinstance(cost, str) else cost


_TOLD = {
    "miou": "mean IoU over every {what} that label or prediction have (as the macro mean of torchmetrics)",
    "accuracy": "share of the counted cells that have the right class",
    "auc": "area under the ROC curve of the probability of each {scored} against the rest; equal probabilities "
    "(in 2048 steps of log-odds) count half; null where every counted cell, or none, is of the {scored}",
}


def describe(metrics: Sequence[str], labels: LabelTable) -> dict[str, Any]:
    """What these metrics cost or mean, JSON-able; null means that such cases do not enter the mean.

    Args:
        metrics: Names in ``COSTS``, metrics of a case as a whole, or ``auc``.
        labels: What is scored.
    """
    what = "region" if labels.regions else "class, with the background," if labels.background else "class"
    scored = "region" if labels.regions else "class"
    return {m: asdict(COSTS[m]) if m in COSTS else _TOLD[m].format(what=what, scored=scored) for m in metrics}
