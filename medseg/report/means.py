"""The means of a result as a table for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from medseg.metrics.summary import Result, Score
from medseg.report.html import show


def means_table(result: Result) -> Table:
    """Means, class by metric, and how many cases entered them; the last row is the summary.

    Metrics of whole cases, without classes, are listed below with their intervals.
    """
    metrics = list(dict.fromkeys(chain.from_iterable(result["classes"].values())))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left", caption_style="")
    table.add_column("class", overflow="fold")
    for name in ("cases", *metrics):
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    rows = result["classes"] | {"mean": result["summary"]} if metrics else {}
    for name, by_metric in rows.items():
        entries = [by_metric[metric] for metric in metrics]
        entered = sorted({entry["cases"] for entry in entries})
        table.add_row(name, " to ".join(map(str, entered)), *(show(entry["mean"]) for entry in entries))
    table.caption = _caption(result["summary"], metrics)
    return table


def _caption(summary: Mapping[str, Any], listed: Sequence[str]) -> str | None:
    """A line for each metric of whole cases; None if there are none."""
    of_cases = [metric for metric in summary if metric not in listed]
    return "\n".join(f"{metric} {_formatted(summary[metric])}" for metric in of_cases) or None


def _formatted(entry: Score) -> str:
    text = show(entry["mean"])
    if entry["ci95"] is not None:
        text += f" ({show(entry['ci95'][0])} to {show(entry['ci95'][1])})"
    return text + (f", mean of {entry['classes']} classes" if "classes" in entry else "")
