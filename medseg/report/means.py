"""The means of a result as a table for the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from medseg.report.html import show


def means_table(result: Mapping[str, Any]) -> Table:
    """Means, class by metric, and how many cases entered them; the last row is the summary.

    Metrics of whole cases, without classes, are listed below with their intervals.
    """
    metrics = list(dict.fromkeys(metric for by in result["classes"].values() for metric in by))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left", caption_style="")
    table.add_column("class", overflow="fold")
    for name in ("cases", *metrics):
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for name, by in [*result["classes"].items(), ("mean", result["summary"])] if metrics else []:
        entered = sorted({by[m]["cases"] for m in metrics})
        table.add_row(name, " to ".join(map(str, entered)), *(show(by[m]["mean"]) for m in metrics))
    whole = {m: entry for m, entry in result["summary"].items() if m not in metrics}
    table.caption = "\n".join(f"{metric} {_formatted(entry)}" for metric, entry in whole.items()) or None
    return table


def _formatted(entry: Mapping[str, Any]) -> str:
    text = show(entry["mean"])
    if entry["ci95"] is not None:
        text += f" ({show(entry['ci95'][0])} to {show(entry['ci95'][1])})"
    return text + (f", mean of {entry['classes']} classes" if "classes" in entry else "")
