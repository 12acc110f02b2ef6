"""The section of a report on scores against each of several observers."""

from __future__ import annotations

from html import escape

from medseg.metrics.summary import Result
from medseg.report.html import Titles, show, table

HEADING = "Scores against each observer"


def observers_table(result: Result, titles: Titles) -> str:
    """A row for each observer, one of their mean, and one of the observers against each other; empty without."""
    section = result.get("observers")
    if not section:
        return ""
    rows = {f"against {name}": means for name, means in section["prediction"].items()}
    rows |= {"mean of these": section["mean"], "observers against each other": section["agreement"]}
    metrics = list(section["mean"])
    shown = [[escape(name), *(show(means.get(key)) for key in metrics)] for name, means in rows.items()]
    return table(["prediction", *map(titles, metrics)], shown)
