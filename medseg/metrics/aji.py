"""Aggregated Jaccard index of instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real

from medseg.metrics.metric import ratio
from medseg.metrics.object_metric import ObjectMetric
from medseg.metrics.objects import Overlaps
from medseg.metrics.structure import Structure


@dataclass(frozen=True)
class Aji(ObjectMetric):
    """Cells that instances share with their best partners, by the cells of these pairs and of all other instances.

    Large instances weigh more, and a predicted one may be the best partner of several, as in the code of MoNuSeg.

    References:
        Kumar et al., A dataset and a technique for generalized nuclear segmentation for computational pathology,
        IEEE Transactions on Medical Imaging 2017.
    """

    name = "aji"
    title = "AJI"
    description = (
        "aggregated Jaccard index: cells that labelled instances (connected components) share with the predicted one "
        "of largest IoU, by the cells of these pairs and of all other instances"
    )

    def parts(self, measured: Structure) -> Int[np.ndarray, "2"]:
        """Shared cells, and cells of pairs and of other instances."""
        return aggregated(self.overlaps(measured), self.least_cells(measured))

    def from_parts(self, parts: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """The ratio of the two."""
        return ratio(parts[..., 0], parts[..., 1])


def aggregated(overlaps: Overlaps, least_cells: float) -> Int[np.ndarray, "2"]:
    """Cells that labelled instances share with their best partners; cells of these pairs and of all other instances.

    Args:
        overlaps: The instances.
        least_cells: Size from which one counts. A predicted one whose partners do not count does not count either.
    """
    label_cells, pred_cells = overlaps.label_cells, overlaps.pred_cells
    order = np.lexsort((-overlaps.shared, -overlaps.iou, overlaps.pairs[:, 0]))
    labels, first = np.unique(overlaps.pairs[order, 0], return_index=True)
    best = order[first]
    partner = overlaps.pairs[best, 1]
    counted = label_cells >= least_cells
    large = counted[labels]
    pairs = label_cells[labels] + pred_cells[partner] - overlaps.shared[best]
    alone = counted.copy()
    alone[labels] = False
    other = pred_cells >= least_cells
    other[partner] = False
    united = pairs[large].sum() + label_cells[alone].sum() + pred_cells[other].sum()
    return np.array([overlaps.shared[best][large].sum(), united], dtype=np.int64)
