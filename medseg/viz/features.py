"""Features: what an encoder sees, as colours and as likeness to one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float

from medseg.viz.false_colour import stretched

_COLOURS = 3
_NOTHING = 1e-6
"""Least spread of a component, as a fraction of the largest; smaller ones are rounding errors."""


def pca_map(feature: Float[np.ndarray, "c *s"]) -> Float[np.ndarray, "*s 3"]:
    """The three widest principal components of a feature's places, as red, green and blue.

    Places of like colour have like features; which colour is chance. Every component is stretched between its
    2nd and 98th percentile, so its contrast does not show its fraction of the variance. The sign of a component,
    which is arbitrary, is such that the channel that weighs most in it weighs positively. Components that there
    are not (fewer channels or places, or all alike) are 0.

    Args:
        feature: Of one image, on its grid.

    Returns:
        In [0, 1], float32.

    References:
        Oquab et al., DINOv2, 2023 (figure 1, which cuts the background away and shares the components
        between images; this does neither).
    """
    rows = feature.reshape(len(feature), -1).T.astype(np.float64)
    rows -= rows.mean(axis=0)
    left, spread, axes = np.linalg.svd(rows, full_matrices=False)
    heaviest = np.abs(axes).argmax(axis=1)
    signs = np.sign(axes[np.arange(len(axes)), heaviest])
    here = np.flatnonzero(spread[:_COLOURS] > _NOTHING * max(spread[0], 1e-30))
    colours = np.zeros((_COLOURS, *feature.shape[1:]), dtype=np.float32)
    every = np.ones(feature.shape[1:], dtype=bool)
    for i in here:
        colours[i] = stretched((left[:, i] * spread[i] * signs[i]).reshape(feature.shape[1:]), every)
    return np.ascontiguousarray(np.moveaxis(colours, 0, -1))


def similarity(feature: Float[np.ndarray, "c *s"], at: Sequence[SupportsIndex]) -> Float[np.ndarray, " *s"]:
    r"""Cosine of the angle between the feature of each place and that of one place.

    .. math:: f_s \cdot f_a / (|f_s| |f_a|)

    Args:
        feature: Of one image, on its grid.
        at: The place, an index for each axis of the grid: the cell of the image divided by the stride.

    Returns:
        In [-1, 1], 1 at the place itself; 0 where a feature is zero. Float32.

    Raises:
        IndexError: A place outside of the grid.
    """
    wide = feature.astype(np.float64)
    place: tuple[Any, ...] = (slice(None), *at)
    reference = wide[place]
    product = np.tensordot(reference, wide, axes=1)
    lengths = np.linalg.norm(wide, axis=0) * np.linalg.norm(reference)
    cosine = np.divide(product, lengths, out=np.zeros_like(product), where=lengths > 0)
    return cosine.clip(-1, 1).astype(np.float32)
