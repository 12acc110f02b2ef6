"""Scores of groups of cases: by site, scanner or biome, with the worst group and the gap between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.metrics.accumulate import CaseScores


def subgroups(scores: CaseScores, groups: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Means and intervals of each group, as ``subgroups`` of ``metrics.json`` has them.

    Args:
        scores: Of all cases.
        groups: By column, the group of each case, in the order in which groups are listed.

    Returns:
        By column: ``groups`` (by name: ``cases``, ``summary`` and ``classes``), and by metric in ``worst`` the group
        with the worst mean, its ``mean``, and the ``gap`` to that of the best group; metrics of which fewer than two
        groups have a mean are left out. JSON-able.
    """
    return {column: _column(scores, of_case) for column, of_case in groups.items()}


def _column(scores: CaseScores, of_case: Mapping[str, str]) -> dict[str, Any]:
    cases: dict[str, list[str]] = {}
    for case in scores.cases:
        cases.setdefault(of_case[case], []).append(case)
    parts = {group: means_of(scores, cases[group]) for group in dict.fromkeys(of_case.values()) if group in cases}
    worst = {}
    for metric in scores.metrics:
        key = scores.key_of(metric)
        means = {group: part["summary"].get(key, {}).get("mean") for group, part in parts.items()}
        means = {group: mean for group, mean in means.items() if mean is not None}
        if len(means) > 1:
            badness = metric.badness(np.array(list(means.values())))
            group = list(means)[int(badness.argmax())]
            gap = float(badness.max() - badness.min())
            worst[key] = {"group": group, "mean": means[group], "gap": gap}
    return {"groups": parts, "worst": worst}


def means_of(scores: CaseScores, cases: Sequence[str]) -> dict[str, Any]:
    """Means and intervals of some of the cases."""
    part = scores.only(cases).result()
    return {"cases": list(cases), "summary": part["summary"], "classes": part["classes"]}
