"""Differences of two predictions of the same cases: interval, permutation test, and what the cases could show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

Statistic = Callable[[Float[np.ndarray, "r m"]], Float[np.ndarray, " r"]]
"""How often each of m rows is taken, for each draw -> value of each draw; NaN where there is none."""
_LEVEL, _POWER = 0.95, 0.8
_SLACK = 1e-12
"""Differences that are this much smaller than the observed one still count as equal to it: rounding."""


@dataclass(frozen=True)
class PairedDraws:
    """Draws of cases that are shared by all metrics, so that their results are of the same draws.

    Attributes:
        taken: How often each case is taken in each draw of the bootstrap; cases of a group are taken together.
        exchanged: Whether the two predictions of a case change places, in each draw of the permutation test; those of
            a group together. The first draw exchanges nothing.
        groups: Number of groups.
    """

    taken: Int[np.ndarray, "r n"]
    exchanged: Bool[np.ndarray, "p n"]
    groups: int

    @classmethod
    def of(
        cls, groups: Sequence[str], *, resamples: int = 2000, permutations: int = 10000, seed: int = 0
    ) -> PairedDraws:
        """Draws of cases, of which those with an equal entry of ``groups`` are not independent.

        Args:
            groups: Group of each case, such as its patient; the name of the case where cases are independent.
            resamples: Draws of the bootstrap.
            permutations: Draws of the test at most; where there are no more exchanges, each is taken once.
            seed: Random seed of both.
        """
        names, group_of = np.unique(np.asarray(groups), return_inverse=True)
        rng, n = np.random.default_rng(seed), len(names)
        taken = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
        if 2**n <= permutations:
            exchanged = (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
        else:
            exchanged = rng.integers(0, 2, (permutations, n)) == 1
            exchanged[0] = False
        return cls(taken[:, group_of], exchanged[:, group_of], n)


@dataclass(frozen=True)
class Difference:
    """The value of a second prediction less that of a first.

    Attributes:
        mean: The difference.
        ci95: Interval of the bootstrap over groups; None with fewer than two groups.
        p: Of the permutation test of no difference, two-sided; at least one by the number of draws.
        detectable: Smallest difference that such a test set would show (5 %, two-sided) in 80 of 100 cases; None with
            fewer than two groups.
    """

    mean: float
    ci95: tuple[float, float] | None
    p: float
    detectable: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the mean as ``difference``."""
        ci95 = None if self.ci95 is None else list(self.ci95)
        return {"difference": self.mean, "ci95": ci95, "p": self.p, "detectable": self.detectable}


def difference(statistic: Statistic, draws: PairedDraws) -> Difference | None:
    r"""Compare two predictions by one value.

    The test exchanges the two predictions of a group at random: if they are equally good, each exchange is as likely
    as what was observed. :math:`p` is the share of exchanges whose difference is at least as large in size.

    Percentiles of the bootstrap are expanded (Hesterberg, What teachers should know about the bootstrap, 2015), as
    those of a few groups are too close, those of six by 30 %. The standard error :math:`s` of ``detectable``
    :math:`= (t_{0.975} + t_{0.8}) s` is that of the bootstrap, times :math:`\sqrt{g / (g - 1)}` with :math:`g`
    groups; t has :math:`g - 1` degrees of freedom.

    Args:
        statistic: Value of 2 n rows: those of the first prediction, and then those of the second.
        draws: Of n cases.

    Returns:
        None where one of the predictions has no value.
    """
    once = np.ones_like(draws.taken[:1])
    first, second = (statistic(rows)[0] for rows in _sides(once))
    if np.isnan(first) or np.isnan(second):
        return None
    observed = float(second - first)
    ones = np.ones(draws.exchanged.shape)
    staying, going = np.where(draws.exchanged, 0.0, ones), np.where(draws.exchanged, ones, 0.0)
    exchanged = statistic(np.hstack([going, staying])) - statistic(np.hstack([staying, going]))
    p = float(np.mean(~(np.abs(exchanged) < abs(observed) - _SLACK)))
    if draws.groups < 2:
        return Difference(observed, None, p, None)
    differences = np.subtract(*(statistic(rows) for rows in reversed(_sides(draws.taken))))
    differences = differences[~np.isnan(differences)]
    return Difference(observed, _interval(differences, draws.groups), p, _detectable(differences, draws.groups))


def _sides(taken: Int[np.ndarray, "r n"]) -> tuple[Float[np.ndarray, "r 2*n"], Float[np.ndarray, "r 2*n"]]:
    """The same cases of the first prediction alone, and of the second alone."""
    weights = taken.astype(np.float64)
    none = np.zeros_like(weights)
    return np.hstack([weights, none]), np.hstack([none, weights])


def _interval(differences: Float[np.ndarray, " r"], groups: int) -> tuple[float, float]:
    """Expanded percentiles: those at which a normal interval of this many groups would be as wide as Student's."""
    from scipy import stats  # here, as Hydra imports the comparison of sweeps whenever a command starts

    quantile = stats.t.ppf((1 + _LEVEL) / 2, groups - 1) * np.sqrt(groups / (groups - 1))
    tail = 100 * stats.norm.cdf(-quantile)
    low, high = np.percentile(differences, [tail, 100 - tail]).tolist()
    return low, high


def _detectable(differences: Float[np.ndarray, " r"], groups: int) -> float:
    from scipy import stats  # see above

    quantiles = stats.t.ppf([(1 + _LEVEL) / 2, _POWER], groups - 1)
    return float(quantiles.sum() * differences.std() * np.sqrt(groups / (groups - 1)))


def of_values(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> Statistic:
    """The mean of values, one for each case and prediction.

    Example:
        >>> draws = PairedDraws.of(["a", "b", "c"])
        >>> found = difference(of_values(np.array([0.5, 0.6, 0.7]), np.array([0.6, 0.7, 0.8])), draws)
        >>> round(found.mean, 3), found.p
        (0.1, 0.25)
    """
    values = np.concatenate([first, second])

    def mean(draws: Float[np.ndarray, "r m"]) -> Float[np.ndarray, " r"]:
        result: Float[np.ndarray, " r"] = draws @ values / draws.sum(axis=1)
        return result

    return mean


def corrected(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction of the p of several tests: any of them is below 0.05 by chance in 5 of 100 cases at most.

    Example:
        >>> {name: round(p, 3) for name, p in corrected({"liver": 0.01, "spleen": 0.04, "kidney": 0.03}).items()}
        {'liver': 0.03, 'spleen': 0.06, 'kidney': 0.06}

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    result: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        result[name] = largest
    return {name: result[name] for name in p}
