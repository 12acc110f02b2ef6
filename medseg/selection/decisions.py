"""Decisions: a candidate replaces the null choice only where its gain is significant, case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medseg.metrics.differences import paired

Scores = Mapping[str, float]
"""Score by case; NaN where a case has none."""


@dataclass(frozen=True)
class Difference:
    """A candidate next to the null choice, on the cases that both have a score of.

    Attributes:
        gain: Mean over cases of the score less that of the null choice, its sign turned where smaller is better.
        interval: Of the gain, at the level of the decision; None with fewer than two cases.
        cases: Number of cases.
        better: Cases in which the candidate is better.
        worse: Cases in which it is worse.
    """

    gain: float
    interval: tuple[float, float] | None
    cases: int
    better: int
    worse: int

    @property
    def significant(self) -> bool:
        """Whether the interval lies above 0."""
        return self.interval is not None and self.interval[0] > 0


@dataclass(frozen=True)
class Decision:
    """One choice among candidates.

    Attributes:
        name: What is decided.
        null: The candidate that wins unless another one is significantly better.
        choice: The candidate that was chosen.
        means: Mean over cases of each candidate.
        differences: Each candidate but the null choice, next to it.
        level: Confidence of each interval.
    """

    name: str
    null: str
    choice: str
    means: Mapping[str, float]
    differences: Mapping[str, Difference]
    level: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the evidence."""
        rows = {
            name: {
                "mean": _rounded(self.means[name]),
                "gain": _rounded(row.gain),
                "interval": None if row.interval is None else [_rounded(bound) for bound in row.interval],
                "cases": row.cases,
                "better": row.better,
                "worse": row.worse,
            }
            for name, row in self.differences.items()
        }
        null = {"name": self.null, "mean": _rounded(self.means[self.null])}
        return {
            "decision": self.name,
            "choice": self.choice,
            "null choice": null,
            "level": round(self.level, 6),
            "others": rows,
        }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def mean_of(scores: Scores) -> float:
    """Mean over the cases that have a score; NaN if none has."""
    values = [value for value in scores.values() if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def difference(candidate: Scores, null: Scores, *, larger: bool, level: float) -> Difference:
    """A candidate next to the null choice.

    Args:
        candidate: Its scores.
        null: Scores of the null choice.
        larger: Whether a larger score is better.
        level: Confidence of the interval.
    """
    pairs = [(candidate[case], null[case]) for case in null if case in candidate]
    gains = [(one - other) * (1 if larger else -1) for one, other in pairs if not math.isnan(one + other)]
    if not gains:
        return Difference(math.nan, None, 0, 0, 0)
    gain, interval = paired(gains, level)
    bounds = None if interval is None else (interval[0], interval[1])
    return Difference(gain, bounds, len(gains), sum(g > 0 for g in gains), sum(g < 0 for g in gains))


def decide(name: str, null: str, candidates: Mapping[str, Scores], *, larger: bool, alpha: float = 0.05) -> Decision:
    """The candidate of largest gain among those whose interval lies above 0; else the null choice.

    The intervals of a decision hold for all of its candidates together: their level is ``1 - alpha / m`` with m
    candidates other than the null choice (Bonferroni), so that many candidates are no more likely than one to replace
    it by chance.

    Args:
        name: What is decided.
        null: Name of the null choice.
        candidates: Scores of each candidate and of the null choice, by name.
        larger: Whether a larger score is better.
        alpha: Chance of any wrong replacement in this decision.
    """
    others = [other for other in candidates if other != null]
    level = 1 - alpha / max(1, len(others))
    rows = {one: difference(candidates[one], candidates[null], larger=larger, level=level) for one in others}
    better = [one for one in others if rows[one].significant]
    choice = max(better, key=lambda one: rows[one].gain, default=null)
    return Decision(name, null, choice, {one: mean_of(of) for one, of in candidates.items()}, rows, level)


def best_single(candidates: Mapping[str, Scores], *, larger: bool, alpha: float = 0.05) -> Decision:
    """The candidate of the best mean, which needs no significance: some network has to be taken, and none is simpler.

    Differences are to the best one.
    """
    means = {name: mean_of(scores) for name, scores in candidates.items()}
    sign = 1 if larger else -1
    best = max(candidates, key=lambda name: -math.inf if math.isnan(means[name]) else sign * means[name])
    others = [name for name in candidates if name != best]
    level = 1 - alpha / max(1, len(others))
    rows = {one: difference(candidates[one], candidates[best], larger=larger, level=level) for one in others}
    return Decision("single configuration", best, best, means, rows, level)


def lines(decision: Decision) -> list[str]:
    """A decision as a table of text: each candidate with its mean, its gain and interval; the choice is marked."""
    head = ["", "mean", "gain", f"{100 * decision.level:.4g} % interval", "better/worse"]
    rows = [[_marked(decision.null, decision), f"{decision.means[decision.null]:.4f}", "", "", ""]]
    for name, row in decision.differences.items():
        interval = "none" if row.interval is None else f"[{row.interval[0]:+.4f}, {row.interval[1]:+.4f}]"
        cells = [f"{decision.means[name]:.4f}", f"{row.gain:+.4f}", interval, f"{row.better}/{row.worse}"]
        rows.append([_marked(name, decision), *cells])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    padded = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in [head, *rows]
    ]
    return [f"{decision.name}: {decision.choice}", *(line.rstrip() for line in padded)]


def _marked(name: str, decision: Decision) -> str:
    return f"{'*' if name == decision.choice else ' '} {name}"
