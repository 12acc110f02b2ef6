"""Paired differences: what one setting brings next to another on the same seeds or cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def paired(differences: Sequence[float], level: float = 0.95) -> tuple[float, list[float] | None]:
    """Mean of paired differences, and Student's interval of it; None with fewer than two.

    Args:
        differences: At least one.
        level: Confidence of the interval.

    Example:
        >>> mean, interval = paired([1.0, 2.0, 3.0])
        >>> mean, [round(bound, 3) for bound in interval]
        (2.0, [-0.484, 4.484])
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    from scipy import stats  # here, as Hydra imports the comparison of sweeps whenever a command starts

    quantile = stats.t.ppf((1 + level) / 2, len(values) - 1)
    half = float(quantile * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, [mean - half, mean + half]
