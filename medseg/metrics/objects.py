"""Objects of a structure, which are its connected components, and how predicted and labelled ones are matched."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from jaxtyping import Bool, Float, Int

from medseg.metrics.surface import box_of

CONNECTIVITY = {"faces": {2: 4, 3: 6}, "corners": {2: 8, 3: 26}}
"""Which cells touch, by the number of axes."""


@dataclass(frozen=True)
class Overlaps:
    """Predicted and labelled objects, and which of them share cells.

    Attributes:
        label_cells: Size of each labelled object, in cells.
        pred_cells: Size of each predicted object.
        pairs: Labelled and predicted object of each pair that shares cells, in their order.
        shared: Cells that the pair shares.
    """

    label_cells: Int[np.ndarray, " m"]
    pred_cells: Int[np.ndarray, " n"]
    pairs: Int[np.ndarray, "p 2"]
    shared: Int[np.ndarray, " p"]

    @property
    def iou(self) -> Float[np.ndarray, " p"]:
        """Intersection over union of each pair."""
        of_label, of_pred = self.pairs.T
        return self.shared / (self.label_cells[of_label] + self.pred_cells[of_pred] - self.shared)


def overlaps_of(pred: Bool[np.ndarray, " *s"], label: Bool[np.ndarray, " *s"], connectivity: str) -> Overlaps:
    """The objects of a predicted and a labelled structure. Objects of one structure that touch are one object.

    Args:
        pred: Predicted structure, in 2D or 3D.
        label: Labelled structure.
        connectivity: See ``CONNECTIVITY``.
    """
    either = pred | label
    if not either.any():
        none = np.zeros(0, dtype=np.int64)
        return Overlaps(none, none, np.zeros((0, 2), dtype=np.int64), none)
    box, touch = box_of(either), CONNECTIVITY[connectivity][pred.ndim]
    masks = [np.ascontiguousarray(mask[box], dtype=np.uint8) for mask in (pred, label)]  # of booleans cc3d 4.1 errs
    of_pred, of_label = (cc3d.connected_components(mask, connectivity=touch) for mask in masks)
    pred_cells, label_cells = (np.bincount(parts.ravel())[1:].astype(np.int64) for parts in (of_pred, of_label))
    both = (of_pred > 0) & (of_label > 0)
    width = len(pred_cells) + 1
    codes, shared = np.unique(of_label[both].astype(np.int64) * width + of_pred[both], return_counts=True)
    pairs = np.stack([codes // width - 1, codes % width - 1], axis=1)
    return Overlaps(label_cells, pred_cells, pairs, shared.astype(np.int64))


@dataclass(frozen=True)
class Matches:
    """Which objects are right.

    Small objects do not count: a small labelled one is neither found nor missed, and a predicted one that matches
    none but small ones, or that is small itself and matches none, is neither right nor false.

    Attributes:
        counted: Labelled objects that count.
        hit: Those of them that a predicted object matches.
        right: Predicted objects that match a labelled one that counts.
        false: Predicted objects that match no labelled one.
        shared: Cells that each labelled object shares with the predicted ones that match it.
        united: Cells of each labelled object and of the predicted ones that match it, together.
    """

    counted: Bool[np.ndarray, " m"]
    hit: Bool[np.ndarray, " m"]
    right: Bool[np.ndarray, " n"]
    false: Bool[np.ndarray, " n"]
    shared: Int[np.ndarray, " m"]
    united: Int[np.ndarray, " m"]


def match(overlaps: Overlaps, least_cells: float, *, iou: float = 0.0, strict: bool = False) -> Matches:
    """Match predicted and labelled objects.

    Args:
        overlaps: The objects.
        least_cells: Size from which an object counts, in cells.
        iou: 0: every pair that shares a cell matches, so that an object may have several partners. Above 0: pairs of
            at least this intersection over union, each object once (those of larger IoU first).
        strict: Pairs of more than this IoU, instead of at least it. From 0.5 on no object has two such partners.
    """
    of_label, of_pred = overlaps.pairs.T
    joined = np.ones(len(of_label), dtype=bool) if iou == 0 else _one_to_one(overlaps, iou, strict=strict)
    counted = overlaps.label_cells >= least_cells
    hit, right, matched = np.zeros_like(counted), *np.zeros((2, len(overlaps.pred_cells)), dtype=bool)
    hit[of_label[joined]] = True
    matched[of_pred[joined]] = True
    right[of_pred[joined & counted[of_label]]] = True
    shared, own = np.zeros_like(overlaps.label_cells), overlaps.label_cells.copy()
    np.add.at(shared, of_label[joined], overlaps.shared[joined])
    np.add.at(own, of_label[joined], overlaps.pred_cells[of_pred[joined]])
    return Matches(
        counted, hit & counted, right, ~matched & (overlaps.pred_cells >= least_cells), shared, own - shared
    )  # fmt: skip


def _one_to_one(overlaps: Overlaps, least: float, *, strict: bool) -> Bool[np.ndarray, " p"]:
    """Pairs of at least (or more than) an IoU, the largest first, in which no object is twice."""
    iou, joined = overlaps.iou, np.zeros(len(overlaps.pairs), dtype=bool)
    labels, preds = set(), set()
    for place in np.argsort(-iou, kind="stable"):
        label, pred = overlaps.pairs[place].tolist()
        enough = iou[place] > least if strict else iou[place] >= least
        if enough and label not in labels and pred not in preds:
            joined[place] = True
            labels.add(label)
            preds.add(pred)
    return joined
