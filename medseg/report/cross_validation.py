"""What a cross-validation says: in a few lines, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from medseg.metrics.accumulate import tables
from medseg.metrics.metric import Metric
from medseg.metrics.summary import primary_metric
from medseg.report.html import interval, show, table, write_report
from medseg.report.titles import title

_SHOWN = 5


def lines(result: Mapping[str, Any], heading: str, metrics: Sequence[Metric]) -> list[str]:
    """The scores over all cases and of each fold, and how many cases are missing.

    Args:
        result: Result of ``sweeps.cross_validation.merged``.
        heading: What the first line begins with.
        metrics: The metrics, as in ``write_report``.
    """
    key = primary_metric(result, metrics)
    if key is None:
        return [f"{heading}: the scores are in metrics.json"]
    entry, named = result["summary"][key], title(key, metrics)
    of_class = ", ".join(f"{name} {_number(by[key]['mean'])}" for name, by in result["classes"].items() if key in by)
    folds = ", ".join(f"{fold['fold']}: {_number(fold['summary'][key]['mean'])}" for fold in result["folds"])
    bounds = "" if entry["ci95"] is None else " [{:.4f}, {:.4f}]".format(*entry["ci95"])
    text = [
        f"{heading}: {named} {_number(entry['mean'])}{bounds} over {entry['cases']} cases ({of_class}); folds {folds}"
    ]
    return text + ([missing(result["missing"])] if result["missing"] else [])


def missing(cases: Sequence[str]) -> str:
    """A sentence about cases without a prediction."""
    dots = ", ..." if len(cases) > _SHOWN else ""
    return f"{len(cases)} cases have no prediction, as their fold was not scored: {', '.join(cases[:_SHOWN])}{dots}"


def write_cross_validation(
    folder: Path,
    result: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    heading: str,
    metrics: Sequence[Metric],
) -> None:
    """Write ``report.html``, ``metrics.json`` and ``cases.csv``, all or none.

    Args:
        folder: Made if need be.
        result: Result of ``sweeps.cross_validation.merged``, with runs relative to the folder.
        settings: The configuration of one of the runs, flat.
        heading: Heading of the page.
        metrics: The metrics, as in ``write_report``.
    """
    note = f'<p class="note">{escape(missing(result["missing"]))}.</p>' if result["missing"] else ""
    facts = {"settings of the first fold": dict(settings)}
    write_report(
        folder / "report.html",
        result,
        facts=facts,
        heading=heading,
        lead=f"On {result['policy']['cases']}",
        sections=[("Folds", _folds(result, metrics) + note)],
        tables=tables(result),
        metrics=metrics,
    )


def _folds(result: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """A row for each fold: its run, its cases, and its mean of each metric with the interval."""
    keys = list(result["summary"])
    rows = [
        [
            f'<a href="{escape(fold["run"])}/report.html">{fold["fold"]}</a>',
            str(fold["cases"]),
            *(_mean(fold["summary"].get(key)) for key in keys),
        ]
        for fold in result["folds"]
    ]
    return table(["fold", "cases", *(title(key, metrics) for key in keys)], rows)


def _mean(entry: Mapping[str, Any] | None) -> str:
    return "–" if entry is None else f"{show(entry['mean'])}<br><small>{interval(entry)}</small>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
