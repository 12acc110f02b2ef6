"""What a comparison of runs says: in a few lines, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from medseg.report.html import page, table
from medseg.report.strip import strip_plot
from medseg.report.titles import title
from medseg.runtime.atomic import write_whole

_SEEDS = "over seeds (Student's 95 % interval, for new seeds on these cases)"
_CASES = "over cases (95 % bootstrap, and permutation test, for new cases with these seeds)"
_ALPHA = 0.05


def lines(result: Mapping[str, Any]) -> list[str]:
    """The comparison as text, a line for each arm and each difference.

    Args:
        result: Result of ``sweeps.compare.compare``.
    """
    metric, folds = result["metric"], result["folds"]
    lines = [
        f"{arm['name']}: {metric} {arm['mean']:.4f}{' is the mean' if folds else ''} ({'' if folds else 'seeds '}"
        + ", ".join(f"{key}: {score:.4f}" for key, score in arm["scores"].items())
        + ")"
        for arm in result["arms"]
    ]
    for row in result["differences"]:
        ahead = sum(d > 0 for d in row["seeds"].values())
        text = (
            f"{row['of']} less {row['to']}: {row['difference']:+.4f} {_over_seeds(row, folds=folds)}, "
            f"ahead with {ahead} of {len(row['seeds'])}"
        )
        if row["of_cases"]:
            text += f"; {_over_cases(row['of_cases'])}"
        lines.append(text)
    return lines


def write_comparison(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page: scores of each arm as dots, and the paired differences with their intervals.

    Args:
        path: File to write, atomically; its folder exists.
        result: Result of ``sweeps.compare.compare``.
    """
    named, first = title(result["metric"]), result["arms"][0]["name"]
    folds = result["folds"]
    seeds = list(dict.fromkeys(seed for arm in result["arms"] for seed in arm["scores"]))
    runs = {seed: seed if folds else f"seed {seed}" for seed in seeds}
    dots = {arm["name"]: [(runs[key], score) for key, score in arm["scores"].items()] for arm in result["arms"]}
    sections = [(f"{named} of each run", strip_plot(dots, label=named) + _scores(result["arms"], runs))]
    if result["differences"]:
        by = "fold and seed" if folds else "seed"
        note = f"Differences are paired by {by}. Intervals: {_SEEDS}; {_CASES}. Neither covers both."
        differences = _differences(result["differences"], runs, folds=folds)
        sections.append((f"{named} less that of {first}", f'{differences}<p class="note">{note}</p>'))
    body = "".join(f"<section><h2>{escape(name)}</h2>{text}</section>" for name, text in sections)
    write_whole(path, page("Comparison", body))


def _scores(arms: Sequence[Mapping[str, Any]], runs: Mapping[str, str]) -> str:
    """A row for each arm: its mean, and the score of each run."""
    rows = [
        [escape(arm["name"]), _number(arm["mean"]), *(_number(arm["scores"].get(seed)) for seed in runs)]
        for arm in arms
    ]
    return table(["arm", "mean", *runs.values()], rows)


def _differences(differences: Sequence[Mapping[str, Any]], runs: Mapping[str, str], *, folds: bool) -> str:
    """A row for each arm: its difference to the first one, of all runs and of each, with intervals."""
    rows = [
        [
            escape(row["of"]),
            _signed(row["difference"]),
            _over_seeds(row, folds=folds).removesuffix(" over seeds"),
            *(_signed(row["seeds"].get(seed)) for seed in runs),
            _over_cases(row["of_cases"]) if row["of_cases"] else "–",
        ]
        for row in differences
    ]
    return table(["arm", "difference", "interval over seeds", *runs.values(), "interval over cases"], rows)


def _over_seeds(row: Mapping[str, Any], *, folds: bool) -> str:
    """The interval of a difference over seeds, or why there is none."""
    if row["ci95"] is not None:
        return f"{_interval(row['ci95'])} over seeds"
    return (
        "(folds share training cases: no interval)"
        if folds
        else "(one seed: no interval over seeds; another seed may reverse it)"
    )


def _over_cases(of: Mapping[str, Any]) -> str:
    """Interval, p and what these cases could show."""
    text = f"{_interval(of['ci95'])} over {of['cases']} cases, p {of['p']:.3g}"
    return text if of["p"] < _ALPHA else f"{text}: they would show {of['detectable']:.2g}"


def _interval(bounds: Sequence[float]) -> str:
    return f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
