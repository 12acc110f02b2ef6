"""The page of the doctor: findings in one table, and contact sheets of the cases with their labels laid over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from medseg.data.case import first_five
from medseg.doctor.checks.shapes import cells_by_class
from medseg.doctor.finding import SEVERITIES, Finding, Severity
from medseg.doctor.survey import CaseFacts, Survey
from medseg.doctor.table import summary
from medseg.doctor.thumbnail import Thumbnail
from medseg.report.html import page, table
from medseg.runtime.atomic import write_whole
from medseg.sample import DataSpec
from medseg.viz.false_colour import Named
from medseg.viz.logged_images import Picture, pictures
from medseg.viz.overlay import Panels

SHEETS = 120
"""Cases that are drawn at most: those with findings first, then others, evenly spaced."""
_KEYS = ("data.", "plan.", "sampling", "split.", "transform.")
_CSS = """<style>
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: .8rem; }
.sheet figure { margin: 0; border: 1px solid var(--line); border-top: 4px solid var(--line); border-radius: 4px; }
.sheet figure.error { border-color: #c62828; } .sheet figure.warning { border-color: #d08700; }
.sheet img { display: block; width: 100%; max-height: 16rem; object-fit: contain; background: #000; }
.sheet figcaption { padding: .3rem .5rem; font-size: .85rem; overflow-wrap: anywhere; }
.sheet figcaption small { display: block; font-weight: 400; }
.findings table { table-layout: fixed; width: 100%; min-width: 44rem; }
.findings th, .findings td, .findings td:first-child { text-align: left; vertical-align: top; white-space: normal;
  overflow-wrap: anywhere; min-width: 0; }
.findings th:nth-child(1) { width: 6.5rem; } .findings th:nth-child(2) { width: 7.5rem; }
.findings th:nth-child(3) { width: 9rem; }
.mark { font-weight: 600; white-space: nowrap; } .mark.error { color: #c62828; } .mark.warning { color: #a86a00; }
@media (prefers-color-scheme: dark) { .mark.error { color: #ff8a80; } .mark.warning { color: #ffc34d; } }
@media (max-width: 40rem) { .findings table { min-width: 0; } .findings thead { display: none; }
  .findings tr, .findings td, .findings td:first-child { display: block; max-width: none; }
  .findings tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .findings td { border: 0; padding: .1rem .4rem; }
  .findings td:last-child::before { content: "fix: "; color: var(--soft); } }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; list-style: none; }
.key i { display: inline-block; width: .9rem; height: .9rem; margin-right: .35rem; vertical-align: -.1rem; }
</style>"""


def write_page(path: Path, name: str, survey: Survey, findings: Sequence[Finding]) -> None:
    """Write the page, one file that needs no other.

    Args:
        path: File to write; its folder is created.
        name: Name of the dataset.
        survey: The dataset.
        findings: The findings, errors first.
    """
    worst = {case: f.severity for f in reversed(findings) for case in f.cases}
    drawn = cases_to_draw(survey.cases, worst)
    sections = [
        ("Findings", _findings(findings)),
        ("Classes", _classes(survey)),
        (f"Cases ({len(drawn)} of {len(survey.cases)})", _key(survey.spec) + _sheet(drawn, survey, findings, worst)),
    ]
    body = f"{_CSS}<p>{escape(summary(findings, len(survey.cases)))}</p>"
    body += "".join(f"<section><h2>{escape(title)}</h2>{text}</section>" for title, text in sections if text)
    write_whole(path, page(f"Data check: {name}", body))


def cases_to_draw(cases: Sequence[CaseFacts], worst: Mapping[str, Severity]) -> list[CaseFacts]:
    """The cases that are drawn: those with errors, with warnings, then others evenly spaced; with a picture each."""
    with_thumbnail = [facts for facts in cases if facts.thumbnail is not None]
    marked = [f for severity in SEVERITIES[:2] for f in with_thumbnail if worst.get(f.id) == severity][:SHEETS]
    others = [f for f in with_thumbnail if worst.get(f.id) not in SEVERITIES[:2]]
    room = min(len(others), SHEETS - len(marked))
    places: list[int] = np.linspace(0, len(others) - 1, room).round().astype(int).tolist() if room else []
    return marked + [others[i] for i in places]


def _findings(findings: Sequence[Finding]) -> str:
    rows = [
        [
            f'<span class="mark {f.severity}">{f.severity}</span>',
            escape(f.check),
            escape(first_five(f.cases)) or "the dataset",
            escape(f.message),
            f"<code>{escape(f.fix)}</code>" if f.fix.lstrip("'").startswith(_KEYS) else escape(f.fix),
        ]
        for f in findings
    ]
    return f'<div class="findings">{table(("severity", "check", "case", "found", "fix"), rows)}</div>' if rows else ""


def _classes(survey: Survey) -> str:
    """Cells of every class over the cases, and in how many cases it occurs."""
    counts = [cells_by_class(f.label, survey) for f in survey.cases if f.label is not None]
    if not counts:
        return ""
    totals = {i: sum(c[i] for c in counts) for i in range(survey.spec.labels.n_classes)}
    every = max(1, sum(totals.values()))
    rows = [
        [
            escape(c.name), str(list(c.values))[1:-1], f"{totals[i]:,}", f"{totals[i] / every:.3%}",
            f"{sum(1 for n in counts if n[i])} of {len(counts)}",
        ]
        for i, c in enumerate(survey.spec.labels.classes)
    ]  # fmt: skip
    return table(("class", "value", "cells", "fraction", "cases"), rows)


def _key(spec: DataSpec) -> str:
    shown = spec.labels.classes[1:] if spec.labels.background else spec.labels.classes
    items = "".join(f'<li><i style="background: rgb{c.colour}"></i>{escape(c.name)}</li>' for c in shown)
    items += '<li><i style="background: rgb(230, 230, 230)"></i>ignored, or no declared value</li>'
    return f'<ul class="key">{items}</ul>'


def _sheet(
    drawn: Sequence[CaseFacts], survey: Survey, findings: Sequence[Finding], worst: Mapping[str, Severity]
) -> str:
    checks_of: dict[str, list[str]] = {}
    for finding in findings:
        for case in finding.cases:
            checks_of.setdefault(case, []).append(finding.check)
    figures = []
    for facts in drawn:
        picture = drawing(facts.thumbnail, survey.spec) if facts.thumbnail is not None else None
        if picture is None:
            continue
        checks = escape(", ".join(dict.fromkeys(checks_of.get(facts.id, ()))))
        part = " (test set)" if facts.test else ""
        caption = f"{escape(facts.id)}{part}<small>{escape(_facts_line(facts))}</small>"
        caption += f"<small>{checks}</small>" if checks else ""
        alt = f"{facts.id}: image and label" if facts.label is not None else f"{facts.id}: image"
        figures.append(
            f'<figure class="{_mark(worst.get(facts.id))}"><img loading="lazy" alt="{escape(alt)}" '
            f'src="data:image/png;base64,{_encoded(picture)}"><figcaption>{caption}</figcaption></figure>'
        )
    return f'<div class="sheet">{"".join(figures)}</div>' if figures else ""


def _mark(severity: Severity | None) -> str:
    """Class of a figure: notes are not marked."""
    return severity if severity is not None and severity != "note" else ""


def _facts_line(facts: CaseFacts) -> str:
    grid = facts.grid
    if grid is None:
        return ""
    shape, spacing = (
        " × ".join(f"{v:.3g}" if i else str(v) for v in vs) for i, vs in enumerate((grid.shape, grid.spacing))
    )
    return f"{shape} cells of {spacing} {grid.unit}" + (f", {grid.orientation}" if grid.orientation else "")


def drawing(thumbnail: Thumbnail, spec: DataSpec) -> UInt8[np.ndarray, "h w 3"]:
    """A case as it is drawn: its image, and next to it the label on it; volumes are cut where most is labelled."""
    image, names = _one_date(thumbnail)
    valid = np.isfinite(image).all(axis=0)
    label = (
        np.full(thumbnail.grid.shape, -1, dtype=np.int64) if thumbnail.label is None else thumbnail.label.astype(int)
    )
    of_name = {c.name: c for c in spec.channels}
    channels = [of_name.get(name) or Named(name) for name in names]
    filled = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    panels = Panels.of(filled, label, None, spec.labels, thumbnail.grid, channels=channels, valid=valid)
    picture: Picture = pictures(panels, "")[0]
    return picture.ground if thumbnail.label is None else picture.side_by_side()


def _one_date(thumbnail: Thumbnail) -> tuple[np.ndarray, list[str]]:
    """Channels of the first date of a time series, or all of them, with the names of their bands."""
    bands = [name.partition(" of ")[0] for name in thumbnail.names]
    count = len(dict.fromkeys(bands))
    return thumbnail.image[:count], bands[:count]


def _encoded(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, format="PNG", optimize=True)
    return base64.b64encode(target.getvalue()).decode()
