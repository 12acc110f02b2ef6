"""What metrics of lesions have in common: which lesions are found, and which predicted ones are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Real

from medseg.errors import InputError
from medseg.metrics.metric import setting
from medseg.metrics.object_metric import ObjectMetric, share
from medseg.metrics.objects import Matches
from medseg.metrics.structure import Structure


class LesionCounts(NamedTuple):
    """Numbers of lesions, or arrays of them: labelled ones and those found, predicted ones and those that are right."""

    labelled: Real[np.ndarray, "*n"]
    hit: Real[np.ndarray, "*n"]
    predicted: Real[np.ndarray, "*n"]
    right: Real[np.ndarray, "*n"]


@dataclass(frozen=True)
class LesionMetric(ObjectMetric):
    """A metric of lesions. Without ``overlap``, a lesion is found if a predicted cell lies in it.

    Attributes:
        overlap: 0: a labelled and a predicted lesion match if they share a cell, and may match several. Above 0: they
            match if their intersection over union is at least this, each of them once.
    """

    overlap: float = setting(0.0, key="lesion_overlap")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.overlap <= 1:
            raise InputError(f"metrics: lesion_overlap must be an IoU from 0 (a shared cell) to 1, got {self.overlap}")

    def lesions(self, structure: Structure) -> Matches:
        """Found, missed, right and false lesions."""
        return self.matches(structure, iou=self.overlap)

    def parts(self, measured: Structure) -> Real[np.ndarray, " q"]:
        """``LesionCounts`` of a structure."""
        lesions = self.lesions(measured)
        predicted = lesions.right.sum() + lesions.false.sum()
        return np.array([lesions.counted.sum(), lesions.hit.sum(), predicted, lesions.right.sum()], dtype=np.int64)


def counts_of(parts: Real[np.ndarray, "*n q"]) -> LesionCounts:
    """The first four numbers of ``parts``."""
    return LesionCounts(*np.moveaxis(np.asarray(parts)[..., :4], -1, 0))


def sensitivity(n: LesionCounts) -> Real[np.ndarray, "*n"]:
    """Share of the labelled lesions that are found."""
    return share(n.hit, n.labelled, n.labelled + n.predicted)


def precision(n: LesionCounts) -> Real[np.ndarray, "*n"]:
    """Share of the predicted lesions that are right."""
    return share(n.right, n.predicted, n.labelled + n.predicted)
