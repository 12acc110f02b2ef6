"""Channels: constant, duplicated, exchanged; NaN, cells without data, and nodata that no file tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from medseg.doctor.contents import ChannelFacts
from medseg.doctor.finding import Finding, Repair, Severity
from medseg.doctor.survey import CaseFacts, Survey
from medseg.formats import GEOTIFF, suffix

Quantiles = Float[np.ndarray, "c 5"]
"""Quantiles of each channel of a case."""
_FEWEST = 6
_MOSTLY = 0.5
_TAKE_OUT = "take the case out"
_SENTINEL = 0.002
"""Share of the cells that have one extreme value, far from all others, from which on it is nodata."""


def constant(survey: Survey) -> list[Finding]:
    """Channels in which every cell has one value."""
    findings = []
    for facts in survey.cases:
        flat = [c.name for c in facts.channels if c.n_valid > 1 and c.minimum == c.maximum]
        if flat:
            message = f"{facts.id}: channel {', '.join(flat)} is {facts.channels[0].minimum:g} everywhere"
            if len(flat) > 1 or flat[0] != facts.channels[0].name:
                message = f"{facts.id}: channel {', '.join(flat)} has one value everywhere"
            fix = "replace its file, or take the case out; if it is so in every case, leave the channel out"
            findings.append(Finding("constant channel", "warning", (facts.id,), message, fix))
    return findings


def duplicated(survey: Survey) -> list[Finding]:
    """Channels of one case that are equal cell for cell."""
    findings = []
    for facts in survey.cases:
        same = [
            (a.name, b.name)
            for a, b in combinations(facts.channels, 2)
            if a.digest == b.digest and a.n_valid and a.minimum != a.maximum
        ]
        if same:
            one, other = same[0]
            fix = "replace the file of one of them; if it is so in every case, declare one channel only"
            message = f"{facts.id}: channels {one} and {other} are equal in every cell"
            findings.append(Finding("duplicated channel", "warning", (facts.id,), message, fix))
    return findings


def exchanged(survey: Survey) -> list[Finding]:
    """Cases in which two channels look as if they had been exchanged.

    Over the dataset, the difference of two channels (of location and of spread, on their common scale) has some
    median and deviation; a case is suspect in which it is that of the exchanged channels.
    """
    names, tables = _comparable(survey)
    if len(tables) < _FEWEST:
        return []
    likeliest: dict[str, tuple[float, str]] = {}
    for a, b in combinations(range(len(names)), 2):
        for case, certainty in _suspects(tables, a, b):
            suspect = (certainty, f"{names[a]} and {names[b]}")
            likeliest[case] = max(likeliest.get(case, suspect), suspect)
    fix = "exchange its two files (or bands), after a look at check.html"
    return [
        Finding("exchanged channels", "warning", (case,), f"{case}: channels {pair} look exchanged, by the others", fix)
        for case, (_, pair) in likeliest.items()
    ]


def _comparable(survey: Survey) -> tuple[list[str], dict[str, Quantiles]]:
    """Names of the channels of the first case that has a table, and the tables of all cases with as many channels."""
    tables = [(facts, table) for facts in survey.cases if (table := _table(facts)) is not None]
    names = [channel.name for channel in tables[0][0].channels] if tables else []
    return names, {facts.id: table for facts, table in tables if len(table) == len(names)}


def _suspects(tables: Mapping[str, Quantiles], a: int, b: int) -> Iterator[tuple[str, float]]:
    """Cases in which channels a and b look exchanged.

    Yields:
        The case, and how many times it is closer to the median of the others once they are exchanged.
    """
    differences = np.array([_difference(table[a], table[b]) for table in tables.values()])
    middle = np.median(differences, axis=0)
    spread = 1.4826 * np.median(np.abs(differences - middle), axis=0) + 0.05
    straight = np.sqrt((((differences - middle) / spread) ** 2).mean(axis=1))
    exchanged = np.sqrt((((differences + middle) / spread) ** 2).mean(axis=1))
    for case, distance, other in zip(tables, straight, exchanged, strict=True):
        if distance > 5 and other < distance / 3:
            yield case, distance / other


def _table(facts: CaseFacts) -> Quantiles | None:
    """Quantiles of each channel, ``[c, 5]``; None if a channel has no cell, or there is one only."""
    if len(facts.channels) < 2 or facts.case.days:
        return None
    rows = np.array([c.quantiles for c in facts.channels])
    return rows if np.isfinite(rows).all() else None


def _difference(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How two channels differ, in numbers that change sign when they are exchanged."""
    scale = (one[-1] - one[0]) + (other[-1] - other[0]) + 1e-12
    spreads = np.log(((one[-1] - one[0]) + 1e-3 * scale) / ((other[-1] - other[0]) + 1e-3 * scale))
    return np.array([*((one - other)[[1, 2, 3]] / scale), spreads])


def missing_data(survey: Survey) -> list[Finding]:
    """NaN cells, cells without data, and validity masks that leave nothing."""
    return [finding for facts in survey.cases for finding in _missing_of(survey, facts)]


def _missing_of(survey: Survey, facts: CaseFacts) -> Iterator[Finding]:
    """What one case lacks."""
    if nonfinite := sum(c.nonfinite for c in facts.channels):
        yield _nonfinite(survey, facts, nonfinite)
    if facts.channels and not any(c.n_valid for c in facts.channels):
        yield Finding("no data", "error", (facts.id,), f"{facts.id}: its image has no cell with data", _TAKE_OUT)
    elif facts.channels:
        yield from _mostly_nodata(facts)
    if facts.inside == 0:
        message = f"{facts.case.valid}: its validity mask is 0 everywhere"
        yield Finding("no data", "error", (facts.id,), message, "draw the mask again, or data.valid=null")


def _mostly_nodata(facts: CaseFacts) -> Iterator[Finding]:
    """The channel with the fewest values, if most of its cells are nodata."""
    worst = min(facts.channels, key=lambda c: c.n_valid / max(1, c.cells))
    fraction = 1 - (worst.n_valid + worst.nonfinite) / max(1, worst.cells)
    if fraction > _MOSTLY:
        message = f"{facts.id}: {fraction:.0%} of channel {worst.name} are nodata"
        fix = "nothing, if so little was seen; sampling.min_valid=0.5 draws patches with data"
        yield Finding("no data", "warning" if fraction > 0.95 else "note", (facts.id,), message, fix)


def _nonfinite(survey: Survey, facts: CaseFacts, nonfinite: int) -> Finding:
    cells = sum(c.cells for c in facts.channels)
    message = f"{facts.id}: {nonfinite} NaN or infinite value(s), {nonfinite / cells:.2%} of its image"
    if survey.reading.nonfinite == "mask":
        severity: Severity = "warning" if nonfinite > _MOSTLY * cells else "note"
        return Finding("NaN", severity, (facts.id,), message, "none: data.nonfinite=mask takes them as nodata")
    fix = "data.nonfinite=mask leaves these cells out"
    return Finding("NaN", "error", (facts.id,), message, fix, _tagging(facts, "nan"))


def _tagging(facts: CaseFacts, value: float | str) -> tuple[Repair, ...]:
    """The repairs that tag a value as nodata in the images that have such a tag."""
    return tuple(Repair("nodata", path, {"value": value}) for path in facts.case.images if suffix(path) in GEOTIFF)


def untagged_nodata(survey: Survey) -> list[Finding]:
    """Values such as -9999 that many cells have, far away from all others, without a nodata tag."""
    return [
        _untagged(survey, facts, value)
        for facts in survey.cases
        for value in sorted({value for c in facts.channels for value in sentinels(c)})
    ]


def _untagged(survey: Survey, facts: CaseFacts, value: float) -> Finding:
    channels = [c for c in facts.channels if value in sentinels(c)]
    fraction = max((c.at_minimum if value == c.minimum else c.at_maximum) / c.cells for c in channels)
    message = f"{facts.id}: {fraction:.2%} of channel {channels[0].name} are {value:g}, far from all other values"
    repairs = _tagging(facts, value)
    fix = f"data.nodata={value:g}" if survey.spec.ndim == 2 else "mask it in the image, or crop the case"
    fix += ", or fix=true tags it" if repairs else ""
    return Finding("untagged nodata", "warning", (facts.id,), message, fix, repairs)


def sentinels(channel: ChannelFacts) -> list[float]:
    """Extreme values of many cells, further from the rest than the rest is wide."""
    outliers = []
    for value, count, (low, high) in (
        (channel.minimum, channel.at_minimum, channel.above_minimum),
        (channel.maximum, channel.at_maximum, channel.below_maximum),
    ):
        if count < max(4, _SENTINEL * channel.n_valid) or not low < high or value in (0, 255):
            continue
        if max(low - value, value - high) > 2 * (high - low) and abs(value) >= 99:
            outliers.append(value)
    return outliers
