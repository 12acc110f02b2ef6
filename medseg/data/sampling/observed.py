"""Which label a training patch takes of a case that several observers have labelled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medseg.data.case import DRAW
from medseg.data.sampling.patches import PreparedCase
from medseg.geometry.box import Box
from medseg.labels import IGNORE
from medseg.sample import Sample

_OBSERVER = 5
"""Second word of the seed of what is drawn here, next to those of cases, boxes and networks."""


def read_window(case: PreparedCase, box: Box, key: tuple[int, int, int], n_classes: int) -> Sample:
    """A window with its label: the joined one, that of one observer, or the joined one with soft labels.

    Args:
        case: Where it is read.
        box: The window.
        key: (seed, step, sample), of which the observer is a function; each is equally likely.
        n_classes: Of the label table.
    """
    observers = case.observers
    if observers is None:
        return case.read(box)
    count, drawn = len(observers.files), observers.use == DRAW
    window = case.read(box, votes=[draw_observer(key, count)] if drawn else range(count))
    votes: Any = window.votes
    label: Any = window.label
    if drawn:
        return replace(window, label=votes[0], votes=None)
    return replace(window, soft=shares(votes, label, n_classes), votes=None)


def draw_observer(key: tuple[int, int, int], count: int) -> int:
    """Number of the observer whose label a patch takes, of ``count``."""
    seed, step, sample = key
    return int(np.random.default_rng([seed, _OBSERVER, step, sample]).integers(count))


def shares(votes: Int[np.ndarray, "r *s"], label: Int[np.ndarray, " *s"], n_classes: int) -> Float[np.ndarray, "n *s"]:
    """Share of the observers that give each class to a cell; what an observer ignores is no vote.

    Args:
        votes: Training index of each observer, or ``IGNORE``.
        label: The joined label. Where it is ``IGNORE`` all shares are 0; where no observer votes, as resampling of
            each label by itself may leave it, its class has all.
        n_classes: Number of classes.

    Returns:
        float32; the shares of a cell sum to 1, or are all 0.

    Example:
        >>> shares(np.array([[0, 1, -1], [1, 1, -1]]), np.array([0, 1, -1]), 2).tolist()
        [[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]]
    """
    counts = np.stack([(votes == k).sum(axis=0) for k in range(n_classes)]).astype(np.float32)
    total = counts.sum(axis=0)
    alone = np.arange(n_classes).reshape(-1, *[1] * label.ndim) == label
    divided = np.where(total > 0, counts / np.maximum(total, 1), alone)
    return np.where(label == IGNORE, 0, divided).astype(np.float32)
