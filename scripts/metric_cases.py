"""Drawn predictions and labels of scripts/check_metrics.py, with the values that follow from their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Pair:
    """A predicted and a labelled structure.

    Attributes:
        name: In the tables.
        pred: Predicted cells.
        label: Labelled cells.
        spacing: Distance of cell centres along each axis, in mm.
        exact: By metric, the value of the shapes that are drawn, in mm or as a ratio.
    """

    name: str
    pred: Bool[np.ndarray, " *s"]
    label: Bool[np.ndarray, " *s"]
    spacing: tuple[float, ...]
    exact: Mapping[str, float] = field(default_factory=dict)


def ball(
    radius: float, spacing: tuple[float, ...], extent: float = 15.0, shift: float = 0.0
) -> Bool[np.ndarray, " *s"]:
    """A ball (in 2D a disc) in the middle of an array of twice an extent, shifted along the first axis; all in mm."""
    axes = [np.arange(-extent, extent + 1e-9, step) for step in spacing]
    axes[0] = axes[0] - shift
    grid = np.meshgrid(*axes, indexing="ij")
    return sum(axis**2 for axis in grid) <= radius**2


def box(shape: tuple[int, ...], *sides: tuple[int, int]) -> Bool[np.ndarray, " *s"]:
    """A box from a first to a last cell (excluded) along each axis."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def concentric(name: str, spacing: tuple[float, ...], outer: float = 12.0, inner: float = 10.0) -> Pair:
    """Two balls of one centre: every distance is the difference of the radii."""
    power, gap = len(spacing), outer - inner
    dice = 2 * inner**power / (inner**power + outer**power)
    exact = {"hd": gap, "hd95": gap, "assd": gap, "masd": gap, "dice": dice, "iou": (inner / outer) ** power}
    return Pair(name, ball(outer, spacing), ball(inner, spacing), spacing, exact)


_SHAPE = (24, 20, 18)
_CUBE = box(_SHAPE, (4, 14), (4, 14), (4, 14))
_CORNERS = box(_SHAPE, (4, 10), (4, 10), (4, 10)) | box(_SHAPE, (10, 16), (10, 16), (10, 16))
_FINE, _THICK = (1.0, 1.0, 1.0), (3.0, 1.0, 1.0)
CASES = (
    concentric("balls, 1 mm", _FINE),
    concentric("balls, 3 × 1 × 1 mm", _THICK),
    concentric("discs, 0.5 × 2 mm", (0.5, 2.0)),
    Pair("ball moved by 3 mm", ball(10, _FINE, shift=3.0), ball(10, _FINE), _FINE, {"hd": 3.0}),
    Pair("cube moved by 2 voxels of 3 mm", np.roll(_CUBE, 2, 0), _CUBE, _THICK, {"hd": 6.0, "dice": 0.8, "iou": 2 / 3}),
    Pair("shell in a ball", ball(12, _FINE) & ~ball(8, _FINE), ball(12, _FINE), _FINE),
    Pair("cubes that touch at a corner", _CORNERS, _CUBE, _FINE),
    Pair("a voxel far away", box(_SHAPE, (0, 1), (0, 1), (0, 1)), box(_SHAPE, (20, 21), (0, 1), (0, 1)), _FINE,
         {"hd": 20.0, "hd95": 20.0, "assd": 20.0, "masd": 20.0, "dice": 0.0, "iou": 0.0}),
    Pair("cut by the edge", box(_SHAPE, (0, 10), (0, 10), (0, 18)), box(_SHAPE, (0, 8), (0, 10), (0, 18)), _FINE,
         {"hd": 2.0, "dice": 16 / 18, "iou": 0.8}),
)  # fmt: skip
_NONE = np.zeros_like(_CUBE)
EMPTY = (
    Pair("missed", _NONE, _CUBE, _FINE),
    Pair("false", _CUBE, _NONE, _FINE),
    Pair("both empty", _NONE, _NONE, _FINE),
)


def _field(seed: int, shape: tuple[int, ...]) -> Float[np.ndarray, " *s"]:
    return gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)


def _blobs(name: str, shape: tuple[int, ...], share: float) -> Pair:
    one, other = _field(0, shape), _field(1, shape)
    mixed = share * one + (1 - share) * other
    label, pred = one > np.quantile(one, 0.8), mixed > np.quantile(mixed, 0.8)
    return Pair(name, pred, label, (1.0,) * len(shape))


_HALF = box((8, 20), (1, 5), (1, 5)) | box((8, 20), (1, 5), (8, 16))
INSTANCES = (
    _blobs("blobs, 2D", (64, 64), 0.75),
    _blobs("blobs, 3D", (28, 28, 28), 0.75),
    Pair("an IoU of one half", _HALF & ~box((8, 20), (1, 5), (12, 16)), _HALF, (1.0, 1.0)),
    Pair(
        "touching corners",
        box((9, 9), (1, 4), (1, 4)) | box((9, 9), (4, 7), (4, 7)),
        box((9, 9), (1, 4), (1, 4)),
        (1.0, 1.0),
    ),
)
_TUBE = ball(4, (1.0, 1.0), 10.0)[None].repeat(30, 0)
THIN = (
    Pair(
        "line with a gap",
        box((9, 30), (4, 5), (2, 12)) | box((9, 30), (4, 5), (14, 28)),
        box((9, 30), (4, 5), (2, 28)),
        (1.0, 1.0),
    ),
    Pair("tube and its half", _TUBE & box(_TUBE.shape, (0, 15), (0, 21), (0, 21)), _TUBE, _FINE),
    _blobs("blobs, 2D", (64, 64), 0.75),
)


def _probabilities(seed: int, sharp: float) -> tuple[Float[np.ndarray, "k *s"], Int[np.ndarray, " *s"]]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, (40, 50))
    logits = rng.normal(0, 2, (2, 40, 50)) + sharp * (np.arange(2)[:, None, None] == label)
    prob = np.exp(logits) / np.exp(logits).sum(axis=0)
    return prob, label


PROBABILITIES = {"hardly known": _probabilities(0, 0.3), "known": _probabilities(1, 3.0)}
