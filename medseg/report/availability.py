"""The section of a report on scores by the channels that cases have."""

from __future__ import annotations

from html import escape

from medseg.metrics.summary import Result
from medseg.report.html import Titles, mean_and_interval, table


def availability_table(result: Result, titles: Titles) -> str:
    """A row for each set of channels that cases have; empty where every case has all."""
    parts = result.get("availability", ())
    metrics = list(dict.fromkeys(key for part in parts for key in part["summary"]))
    rows = [
        [
            escape(", ".join(part["channels"])),
            str(len(part["cases"])),
            *(mean_and_interval(part["summary"][key]) if key in part["summary"] else "–" for key in metrics),
        ]
        for part in parts
    ]
    return table(["channels of the case", "cases", *map(titles, metrics)], rows) if rows else ""
