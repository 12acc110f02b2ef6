"""The section of a report on scores of groups of cases."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from medseg.metrics.summary import Result
from medseg.report.html import Titles, mean_and_interval, show, table


def subgroup_tables(result: Result, titles: Titles) -> str:
    """For each column a row for each group, and the gap between the best and the worst; empty without groups."""
    return "".join(_table(column, scores, titles) for column, scores in result.get("subgroups", {}).items())


def _table(column: str, scores: Mapping[str, Any], titles: Titles) -> str:
    metrics = list(dict.fromkeys(key for part in scores["groups"].values() for key in part["summary"]))
    rows = [
        [
            escape(group),
            str(len(part["cases"])),
            *(mean_and_interval(part["summary"][key]) if key in part["summary"] else "–" for key in metrics),
        ]
        for group, part in scores["groups"].items()
    ]
    worst = scores["worst"]
    rows.append(["gap", "", *(_gap(worst[key]) if key in worst else "–" for key in metrics)])
    return table([column, "cases", *map(titles, metrics)], rows)


def _gap(worst: Mapping[str, Any]) -> str:
    named = f"<br><small>worst: {escape(worst['group'])}</small>" if worst["gap"] else ""
    return show(worst["gap"]) + named
