"""Centreline Dice of a structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from medseg.metrics.metric import ClassMetric, Pooled, ratio
from medseg.metrics.policy import WORST_0
from medseg.metrics.structure import Structure
from medseg.metrics.surface import box_of


@dataclass(frozen=True)
class Cldice(ClassMetric, Pooled):
    r"""Overlap of centrelines with structures: whether vessels, roads or nerves are there as a whole, however thick.

    .. math:: 2 P S / (P + S), P = |C_p \cap L| / |C_p|, S = |C_l \cap M| / |C_l|

    with M and L the predicted and the labelled cells, and C_p and C_l their centrelines: P is the topology precision,
    S the topology sensitivity. Where a cell does not count, both structures are cut.

    References:
        Shit et al., clDice, CVPR 2021. They thin by scikit-image, which breaks ties otherwise; see ``centrelines``.
    """

    name = "cldice"
    title = "clDice"
    description = (
        "harmonic mean of the share of the predicted centreline in the label and of the labelled one in the prediction"
    )
    empty = WORST_0

    def measure(self, measured: Structure) -> float:
        """In [0, 1]."""
        return float(self.from_parts(self.parts(measured)[None])[0])

    def parts(self, measured: Structure) -> Int[np.ndarray, "4"]:
        """See ``centreline_counts``."""
        return measured.shared("centreline_counts", lambda: centreline_counts(measured.pred, measured.label))

    def from_parts(self, parts: Real[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
        """The harmonic mean; 0 where all cases together miss a structure or have a false one."""
        right, predicted, covered, labelled = np.moveaxis(np.asarray(parts, dtype=np.float64), -1, 0)
        precision, sensitivity = ratio(right, predicted), ratio(covered, labelled)
        value = np.nan_to_num(ratio(2 * precision * sensitivity, precision + sensitivity))
        return np.where(predicted + labelled > 0, value, np.nan)


def centreline_counts(pred: Bool[np.ndarray, " *s"], label: Bool[np.ndarray, " *s"]) -> Int[np.ndarray, "4"]:
    """Cells of the predicted centreline: those in the label, and all; then of the labelled one in the prediction.

    Args:
        pred: Predicted structure, in 2D or 3D; a volume of depth one is taken for an image.
        label: Labelled structure.
    """
    flat = tuple(axis for axis, size in enumerate(label.shape) if size == 1)[: label.ndim - 2]
    pred, label = pred.squeeze(flat), label.squeeze(flat)
    of_pred, of_label = _centreline(pred), _centreline(label)
    return np.array([(of_pred & label).sum(), of_pred.sum(), (of_label & pred).sum(), of_label.sum()], dtype=np.int64)


def _centreline(mask: Bool[np.ndarray, " *s"]) -> Bool[np.ndarray, " *s"]:
    """The centreline of a mask, of which most is around it."""
    if not mask.any():
        return mask
    import torch  # here, as scoring label files needs it for nothing else

    from medseg.topology.thinning import centrelines

    box, line = box_of(mask), np.zeros_like(mask)
    line[box] = centrelines(torch.from_numpy(np.ascontiguousarray(mask[box]))[None])[0].numpy()
    return line
