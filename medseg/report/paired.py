"""What a comparison of predictions says: in a few lines, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from medseg.metrics.metric import Metric
from medseg.report.html import Titles, page, show, table
from medseg.report.titles import title
from medseg.runtime.atomic import write_whole

_ALPHA = 0.05
_WIDTH, _ROW, _LEFT = 420, 40, 12


def lines(result: Mapping[str, Any]) -> list[str]:
    """A line for the first metric of each prediction, and one on what the cases can show.

    Args:
        result: Result of ``metrics.paired.compared``.
    """
    first = result["differences"][0]["metric"]
    differences = [
        f"{row['of']} less {row['to']}: {row['metric']} {_signed(row['difference'])} {_interval(row)}, "
        f"p {_p(row['p_corrected'])}: {_verdict(row)}"
        for row in result["differences"]
        if row["metric"] == first and row["class"] is None
    ]
    return [*differences, f"{_basis(result)}. {_limit(result)}".rstrip()]


def write_page(path: Path, result: Mapping[str, Any], metrics: Sequence[Metric] = ()) -> None:
    """Write the page: differences with their intervals as pictures and tables, ranks, and how they are made.

    Args:
        path: File to write, atomically; its folder exists.
        result: Result of ``metrics.paired.compared``.
        metrics: Metrics other than those of the package.
    """
    titles = partial(title, metrics=metrics)
    names, keys = result["predictions"], list(dict.fromkeys(row["metric"] for row in result["differences"]))
    sections = [("Differences of the means", _table(_of(result, keys, summary=True), titles, "prediction"))]
    for key in keys:
        rows = [row for row in _of(result, [key], summary=False) if row["difference"] is not None]
        if rows:
            sections.append(
                (f"{titles(key)} of each class", _forest(rows, titles(key)) + _table(rows, titles, "class"))
            )
    sections += [("Ranks", _ranks(result, titles)), ("How", _how(result))]
    lead = f'<p class="note">{escape(". ".join(lines(result)))}</p>'
    body = "".join(f"<section><h2>{escape(name)}</h2>{text}</section>" for name, text in sections if text)
    write_whole(path, page(f"Comparison of {' and '.join(names)}", lead + body))


def _of(result: Mapping[str, Any], keys: Sequence[str], *, summary: bool) -> list[Mapping[str, Any]]:
    return [r for key in keys for r in result["differences"] if r["metric"] == key and (r["class"] is None) == summary]


def _table(rows: Sequence[Mapping[str, Any]], titles: Titles, kind: str) -> str:
    """A row for each difference; of the summary with the metric in front."""
    head = ["metric" if kind == "prediction" else "class", "less", "difference", "95 % interval"]
    head += ["p", "p, corrected", "could show"]
    body = [
        [
            escape(titles(row["metric"]) if row["class"] is None else row["class"]),
            escape(f"{row['of']} less {row['to']}"),
            _signed(row["difference"]),
            _interval(row),
            _p(row["p"]),
            _p(row["p_corrected"]),
            show(row["detectable"]),
        ]
        for row in rows
    ]
    return table(head, body, kind="names")


def _forest(rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """A dot and its interval for each difference, and a line at 0."""
    bounds = [bound for row in rows for bound in (row["ci95"] or [row["difference"]])] + [0.0]
    reach = max(map(abs, bounds)) or 1.0
    height = _ROW * len(rows) + 34
    at = partial(_across, reach=reach)
    parts = [
        f'<svg class="strip" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="differences of {escape(label)}">'
    ]
    for tick in (-reach, 0.0, reach):
        parts.append(f'<line class="grid" x1="{at(tick)}" x2="{at(tick)}" y1="4" y2="{height - 30}"/>')
        anchor = "middle" if not tick else "start" if tick < 0 else "end"
        text = _signed(tick) if tick else "0"
        parts.append(f'<text class="tick" x="{at(tick)}" y="{height - 14}" text-anchor="{anchor}">{text}</text>')
    for number, row in enumerate(rows):
        y = _ROW * number + 30
        parts.append(f'<text x="{_LEFT - 4}" y="{y - 12}">{escape(row["class"])}: {escape(row["of"])}</text>')
        if row["ci95"]:
            low, high = map(at, row["ci95"])
            parts.append(f'<line class="median" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{at(row["difference"])}" cy="{y}" r="4"/>')
    return "".join([*parts, "</svg>"])


def _across(value: float, *, reach: float) -> float:
    return round(_WIDTH / 2 + value / reach * (_WIDTH / 2 - _LEFT), 1)


def _ranks(result: Mapping[str, Any], titles: Titles) -> str:
    rows = [
        [
            escape(titles(metric)),
            str(next(iter(ranks.values()))["cases"]),
            *(_rank(ranks[n]) for n in result["predictions"]),
        ]
        for metric, ranks in result["ranks"].items()
        if ranks
    ]
    note = (
        '<p class="note">Mean rank over cases, 1 is the best; in brackets the share of cases in which the prediction '
        "alone is the best. A case enters if every prediction has a value of it.</p>"
    )
    return table(["metric", "cases", *result["predictions"]], rows) + note if rows else ""


def _rank(entry: Mapping[str, float]) -> str:
    return f"{entry['mean']:.2f} ({100 * entry['best']:.0f} %)"


def _how(result: Mapping[str, Any]) -> str:
    entries = {
        "cases": _basis(result),
        "difference": result["policy"]["difference"],
        "95 % interval": result["policy"]["ci95"],
        "p": f"{result['policy']['p']}; the least p of this test set is {_p(result['policy']['least_p'])}",
        "p, corrected": result["policy"]["p_corrected"],
        "could show": result["policy"]["detectable"],
    }
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries.items()) + "</dl>"


def _basis(result: Mapping[str, Any]) -> str:
    of_groups = "" if result["groups"] is None else f" of {result['groups']} groups"
    return f"{result['cases']} cases{of_groups}, the same for all predictions"


def _limit(result: Mapping[str, Any]) -> str:
    least = result["policy"]["least_p"]
    return f"So few can show no difference at all: p is {_p(least)} at least." if least > _ALPHA else ""


def _verdict(row: Mapping[str, Any]) -> str:
    if row["p_corrected"] is None:
        return "one of them has no value"
    if row["p_corrected"] < _ALPHA:
        return "a difference"
    could = "" if row["detectable"] is None else f"; these cases would show one of {show(row['detectable'])}"
    return f"no difference shown{could}"


def _interval(row: Mapping[str, Any]) -> str:
    return "–" if row["ci95"] is None else f"[{_signed(row['ci95'][0])}, {_signed(row['ci95'][1])}]"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}" if abs(value) < 10 else f"{value:+.1f}"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if value >= 0.0001 else "below 0.0001"
