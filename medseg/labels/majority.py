"""The label that most of several observers give."""

import numpy as np
from jaxtyping import Int

from medseg.labels.classes import IGNORE


def majority(votes: Int[np.ndarray, "r *s"], n_classes: int) -> Int[np.ndarray, " *s"]:
    """The class that most observers give to a cell; of equally many, the one that is listed first.

    Args:
        votes: Training index of each observer, or ``IGNORE``, which is no vote; a cell without any is ignored.
        n_classes: Number of classes.

    Example:
        >>> majority(np.array([[0, 1, -1], [1, 1, -1], [1, 0, 0]]), 2).tolist()
        [1, 1, 0]
    """
    counts = np.stack([(votes == k).sum(axis=0) for k in range(n_classes)])
    return np.where(counts.any(axis=0), counts.argmax(axis=0), IGNORE)
