"""The HTML report: one file that needs no other, for people who were not there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from medseg.metrics.metric import Metric
from medseg.metrics.registry import builtin
from medseg.metrics.summary import Result, Score, primary_metric
from medseg.report.confusion import confusion_table
from medseg.report.strip import strip_plot
from medseg.report.titles import length_unit, title
from medseg.runtime.atomic import write_together

_WORST = 10
_LONG = 160
_FEW = 3  # columns that a phone shows at once
_STATED = {"ci95": "95 % interval"}
Titles = Callable[[str], str]
"""Key of ``metrics.json`` -> name and unit as the page shows them."""
_CSS = """
:root { color-scheme: light dark;
  --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #fff; --band: #f5f7f9; --dot: #3c5488; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebef; --soft: #9aa5b4; --line: #38414d; --paper: #14181d; --band: #1d232a; --dot: #91b4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide, pre { overflow-x: auto; scrollbar-width: thin; } pre { font-size: .8rem; }
/* Where a table is wider than its box, its right edge fades until it has been scrolled to the end. */
@property --fade { syntax: "<length>"; inherits: false; initial-value: 0px; }
.wide { animation: fade linear; animation-timeline: scroll(self inline);
  mask-image: linear-gradient(to right, #000 calc(100% - var(--fade)), transparent); }
@keyframes fade { 0%, 95% { --fade: 4rem; } 100% { --fade: 0px; } }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th, td small { white-space: normal; } thead th { vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody tr:nth-child(even), tbody tr:nth-child(even) > :first-child { background: var(--band); }
.prose td + td { white-space: normal; } .names td:nth-child(2), .names th:nth-child(2) { text-align: left; }
small, .note { color: var(--soft); }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 2.5rem; } img { max-width: 100%; height: auto; display: block; }
figcaption { font-weight: 600; font-size: 1.05rem; padding-bottom: .4rem; overflow-wrap: anywhere; }
code { font-size: .85rem; overflow-wrap: anywhere; }
.strip { width: 100%; max-width: 36rem; height: auto; font-size: 13px; }
.strip text { fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.strip .tick { fill: var(--soft); }
.strip .grid { stroke: var(--line); } .strip .box { fill: var(--dot); opacity: .15; }
.confusion td { background: color-mix(in srgb, var(--dot) calc(var(--share, 0) * 45%), var(--paper)); }
.strip .median { stroke: var(--dot); stroke-width: 2; } .strip .dot { fill: var(--dot); opacity: .6; }
@media (max-width: 40rem) { body { padding: .6rem; } th, td { padding: .25rem .4rem; }
  .many::before { content: "more columns: scroll sideways →"; position: sticky; left: 0; color: var(--soft);
    font-size: .8rem; }
  th:first-child, td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 40vw; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; } }
"""


def write_report(
    path: Path,
    result: Result,
    figures: Sequence[tuple[str, bytes]] = (),
    facts: Mapping[str, object] | None = None,
    *,
    heading: str = "Segmentation report",
    lead: str = "",
    files: Mapping[str, Mapping[str, str]] | None = None,
    sections: Sequence[tuple[str, str]] = (),
    tables: Mapping[str, str] | None = None,
    metrics: Sequence[Metric] = (),
) -> None:
    """Write ``report.html``: means with intervals, classes, confusion, every case, the worst cases, the policy.

    Args:
        path: File to write, atomically; its folder exists.
        result: The content of ``metrics.json``.
        figures: (name of the case, PNG) shown in this order.
        facts: What else a reader should know: paths, versions, settings.
        heading: Heading of the page.
        lead: A line below the heading: what was scored, and when.
        files: Paths of the files of each case by kind, such as ``prediction``; shown for the worst cases.
        sections: Further sections after the summary: heading and HTML.
        tables: Further files of the folder, name to text, that are written with the page, all or none.
        metrics: Metrics other than those of the package that the result may hold.
    """
    titles = partial(title, metrics=metrics)
    parts = [
        ("Summary", _summary(result, titles)),
        *sections,
        ("Classes", _classes(result, titles)),
        ("Confusion", confusion_table(result)),
        ("Calibration", _calibration(result.get("calibration"))),
        *_ranked(result, primary_metric(result, metrics), titles, files or {}),
        ("Figures", "".join(_figure(caption, png) for caption, png in figures)),
        ("Miss policy", _policy(result, titles, metrics)),
        ("Facts", _facts(facts or {})),
    ]
    body = "".join(f"<section><h2>{escape(name)}</h2>{text}</section>" for name, text in parts if text)
    further = {path.parent / name: text for name, text in (tables or {}).items()}
    above = f'<p class="note">{escape(lead)}</p>' if lead else ""
    write_together(further | {path: page(heading, above + body)})


def page(heading: str, body: str) -> str:
    """A whole HTML page in the style of the reports; ``body`` is HTML already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{_CSS}</style></head>"
        f"<body><h1>{escape(heading)}</h1>{body}</body></html>\n"
    )


def write_run_report(
    path: Path,
    result: Result,
    figures: Sequence[tuple[str, bytes]],
    stored: Mapping[str, Any],
    *,
    name: str,
    tables: Mapping[str, str] | None = None,
    sections: Sequence[tuple[str, str]] = (),
    metrics: Sequence[Metric] = (),
) -> None:
    """Write ``report.html`` of a training run.

    Args:
        path: File to write; its folder exists.
        result: The content of ``metrics.json``.
        figures: As in ``write_report``.
        stored: Content of the checkpoint except the weights: ``config``, ``plan``, ``provenance``.
        name: Name of the run.
        tables: Further tables, as in ``write_report``.
        sections: Further sections, as in ``write_report``.
        metrics: The metrics, as in ``write_report``.
    """
    provenance = dict(stored["provenance"])
    command = " ".join(provenance.pop("command"))
    provenance["data"] = {key: value for key, value in dict(provenance.get("data", {})).items() if key != "files"}
    facts = {"command": command, **provenance, "plan": stored["plan"], "config": stored["config"]}
    said = result["policy"]
    heading = ": ".join([f"Run {name}", *filter(None, [said.get("cases")])])
    lead = f"Checkpoint {said.get('checkpoint', '–')}, step {said.get('step', '–')}, on {said.get('cases', '–')}"
    settings: Any = {"sections": sections, "tables": tables, "metrics": metrics}
    write_report(path, result, figures, facts, heading=heading, lead=lead, **settings)


def show(value: object) -> str:
    """A number with three decimals (four figures from 10), anything else as it is, a dash for None.

    Example:
        >>> show(0.91234), show(1234.5), show(None), show("a")
        ('0.912', '1234', '–', 'a')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.{max(0, 4 - len(str(int(abs(value)))))}f}"
    return str(value)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """A table that scrolls sideways in its own box, whose first column stays; header is escaped, cells are HTML.

    Args:
        header: Names of the columns.
        rows: A cell for each column.
        kind: ``prose`` if cells are sentences, ``names`` if the second column has names too.
    """
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    whole = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide{" many" if len(header) > _FEW else ""}" tabindex="0">{whole}</div>'


def interval(entry: Score) -> str:
    """The interval of a value of ``metrics.json``, a dash where there is none."""
    return "–" if entry["ci95"] is None else " to ".join(show(bound) for bound in entry["ci95"])


def mean_and_interval(entry: Score) -> str:
    """Both of a value of ``metrics.json``, one below the other."""
    return f"{show(entry['mean'])}<br><small>{interval(entry)}</small>"


def _ranked(
    result: Result, primary: str | None, titles: Titles, files: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, str]]:
    """The sections in which the primary metric ranks the cases; none without such a metric."""
    if primary is None:
        return []
    named = titles(primary)
    return [
        (f"{named} of every case", _strip(result, primary, named)),
        (f"Worst cases ({_WORST} lowest {named})", _worst(result, primary, titles)),
        ("Files of the worst cases", _paths(result, primary, files)),
    ]


def _summary(result: Result, titles: Titles) -> str:
    rows = [
        (escape(titles(metric)), show(entry["mean"]), interval(entry), str(entry["cases"]))
        for metric, entry in result["summary"].items()
    ]
    stated = {key: text for key, text in result["policy"].items() if isinstance(text, str)}
    notes = "".join(
        f"<dt>{escape(_STATED.get(k, titles(k)))}</dt><dd>{escape(text)}</dd>" for k, text in stated.items()
    )
    means = table(("metric", "mean", "95 % interval", "cases"), rows)
    return means + (f'<dl class="note">{notes}</dl>' if notes else "")


def _classes(result: Result, titles: Titles) -> str:
    metrics = list(dict.fromkeys(metric for by in result["classes"].values() for metric in by))
    rows = []
    for name, by in result["classes"].items():
        most = max((entry["cases"] for entry in by.values()), default=0)
        rows.append([escape(name), str(most), *(_of_class(by[m], most) if m in by else "–" for m in metrics)])
    return table(["class", "cases", *map(titles, metrics)], rows) if metrics else ""


def _of_class(entry: Score, most: int) -> str:
    """Mean and interval, and how many cases entered where that is fewer than entered another metric."""
    fewer = f"; n {entry['cases']}" if entry["cases"] < most else ""
    return f"{show(entry['mean'])}<br><small>{interval(entry)}{fewer}</small>"


def _strip(result: Result, primary: str, label: str) -> str:
    rows = [row for row in result["cases"] if row.get(primary) is not None]
    values = {k: [(str(r["case"]), r[primary]) for r in rows if r["class"] == k] for k in result["classes"]}
    return strip_plot(values, label=label) if rows else ""


def _lowest(result: Result, primary: str) -> list[Mapping[str, Any]]:
    rows = sorted((row for row in result["cases"] if row.get(primary) is not None), key=lambda row: row[primary])
    return rows[:_WORST]


def _paths(result: Result, primary: str, files: Mapping[str, Mapping[str, str]]) -> str:
    """The files of the worst cases, each case once."""
    cases = dict.fromkeys(str(row["case"]) for row in _lowest(result, primary))
    entries = ""
    for case in (case for case in cases if case in files):
        paths = "<br>".join(f"{escape(kind)} <code>{escape(path)}</code>" for kind, path in files[case].items())
        entries += f"<dt>{escape(case)}</dt><dd>{paths}</dd>"
    return f"<dl>{entries}</dl>" if entries else ""


def _worst(result: Result, primary: str, titles: Titles) -> str:
    lowest = _lowest(result, primary)
    metrics = [key for key in (lowest[0] if lowest else {}) if key not in ("case", "class")]
    rows = [[escape(str(row["case"])), escape(row["class"]), *(show(row.get(m)) for m in metrics)] for row in lowest]
    return table(["case", "class", *map(titles, metrics)], rows, kind="names") if rows else ""


def _figure(caption: str, png: bytes) -> str:
    encoded = base64.b64encode(png).decode()
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<img alt="{escape(caption)}: image, label and prediction" src="data:image/png;base64,{encoded}"></figure>'
    )


def _calibration(scores: Mapping[str, Any] | None) -> str:
    """What the temperature brings, where one was fitted."""
    if not scores:
        return ""
    names = {"nll": "negative log-likelihood", "ece": "expected calibration error"}
    rows = [[escape(text), *(show(scores[name][at]) for at in ("before", "after"))] for name, text in names.items()]
    note = (
        f'<p class="note">Of {scores["cells"]} cells of {scores["cases"]} validation cases. Probabilities are written '
        f"at the temperature {show(scores['temperature'])}, which no label depends on. After: "
        f"{escape(str(scores['after']))}.</p>"
    )
    return table(("score of probabilities", "before", "after"), rows) + note


def _policy(result: Result, titles: Titles, metrics: Sequence[Metric]) -> str:
    costs = {name: cost for name, cost in result["policy"].items() if isinstance(cost, Mapping)}
    lengths = {name: cls.lengths for name, cls in builtin().items()} | {m.name: m.lengths for m in metrics}
    unit = length_unit(result["summary"])
    rows = []
    for name, cost in costs.items():
        settings = _settings(cost, lengths.get(name, ()), unit)
        empty = "not counted" if cost["both_empty"] is None else show(cost["both_empty"])
        named = titles(name) + (f" ({settings})" if settings else "")
        rows.append([escape(cell) for cell in (named, show(cost["missed"]), show(cost["false"]), empty)])
    note = (
        '<p class="note">What a case scores whose structure is labelled but not predicted (missed), predicted but not '
        "labelled (false), or neither (both empty).</p>"
    )
    return table(("metric", "missed", "false", "both empty"), rows, kind="prose") + note if rows else ""


def _settings(cost: Mapping[str, Any], lengths: Sequence[str], unit: str) -> str:
    """The settings that stand next to the costs of a metric, lengths with the unit."""
    settings = {key: value for key, value in cost.items() if key not in ("missed", "false", "both_empty")}
    return ", ".join(f"{key} {value} {unit if key in lengths else ''}".rstrip() for key, value in settings.items())


def _facts(facts: Mapping[str, object]) -> str:
    entries = "".join(f"<dt>{escape(str(k))}</dt><dd>{_fact(v)}</dd>" for k, v in facts.items())
    return f"<dl>{entries}</dl>" if entries else ""


def _fact(value: Any) -> str:
    """Text as it is, a few plain values in a line, small structures as JSON, large ones folded away."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return escape(value)
    line = json.dumps(value, default=str, ensure_ascii=False)
    if len(line) <= _LONG:
        plain = isinstance(value, Mapping) and all(isinstance(v, (str, int, float)) for v in value.values())
        return escape(", ".join(f"{k} {v}" for k, v in value.items()) if plain else line)
    whole = json.dumps(value, default=str, ensure_ascii=False, indent=2)
    return f"<details><summary>{whole.count(chr(10)) + 1} lines</summary><pre>{escape(whole)}</pre></details>"
