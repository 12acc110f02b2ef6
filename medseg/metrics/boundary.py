"""Boundary IoU: overlap of the bands along the contours of a predicted and a labelled structure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import minimum_filter

from medseg.metrics.blocks import row_blocks
from medseg.metrics.surface import box_of


def band(mask: Bool[np.ndarray, " *s"], width: int) -> Bool[np.ndarray, " *s"]:
    """Cells of ``mask`` from which a step of at most ``width`` cells along every axis at once leads out.

    With a width of 1 these are the cells with a neighbour outside, diagonals included. Beyond the edge
    of the array is outside, as in the code of the paper; so a structure that the edge cuts has a
    contour there.

    Example:
        >>> band(np.array([False, True, True, True, True, True]), 1).tolist()
        [False, True, False, False, False, True]
    """
    inner = minimum_filter(mask.astype(np.uint8), size=2 * width + 1, mode="constant", cval=0)
    return mask & (inner == 0)


def boundary_counts(pred: Bool[np.ndarray, " *s"], label: Bool[np.ndarray, " *s"], width: int) -> tuple[int, int]:
    """Cells in both bands, and cells in either; their ratio is the boundary IoU of one structure.

    Cells that do not count must be false in both masks: the cut this makes through a structure is a
    contour of both, as the edge of the array is.

    Args:
        pred: Predicted structure, in 2D or 3D.
        label: Labelled structure.
        width: Width of the bands, in cells; at least 1.

    References:
        Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021
        (of single objects; here of all cells of a class together).
    """
    either = pred | label
    if not either.any():
        return 0, 0
    box = box_of(either)  # what is outside it is outside both structures
    pred, label = pred[box], label[box]
    both = in_either = 0
    for rows in row_blocks(pred.shape, least_rows=4 * width):
        of_pred, of_label = _band_of_rows(pred, rows, width), _band_of_rows(label, rows, width)
        both += int((of_pred & of_label).sum())
        in_either += int((of_pred | of_label).sum())
    return both, in_either


def _band_of_rows(mask: Bool[np.ndarray, " *s"], rows: slice, width: int) -> Bool[np.ndarray, " *r"]:
    """Rows of the band of a whole mask, from the rows that decide them."""
    first, stop = max(0, rows.start - width), min(len(mask), rows.stop + width)
    return band(mask[first:stop], width)[rows.start - first : rows.stop - first]


def cells_of(width: float, shape: Sequence[int]) -> int:
    """Width of the band in cells, at least 1.

    Args:
        width: Below 1 a share of the diagonal of the array, counted in cells; from 1 on cells.
        shape: Shape of the array.

    Example:
        >>> cells_of(0.02, (300, 400)), cells_of(3, (300, 400))
        (10, 3)
    """
    return max(1, round(width * math.hypot(*shape)) if width < 1 else round(width))
