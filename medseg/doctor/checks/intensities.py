"""Intensities: cases that are not on the scale of the others of their group (site, scanner)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from medseg.doctor.checks.channels import sentinels
from medseg.doctor.contents import ChannelFacts
from medseg.doctor.finding import Finding, Severity
from medseg.doctor.survey import CaseFacts, Survey

_FEWEST = 5
_TIMES = 20.0
"""Times the median width of the histogram from which on a case can be an outlier."""
_DEVIATIONS = 6.0


def outliers(survey: Survey) -> list[Finding]:
    """Cases whose histogram is far wider, narrower or elsewhere than those of their group.

    The width is from the 5th to the 95th percentile, on a logarithmic scale, the place the median. A group of less
    than five cases is compared with all others.
    """
    deviations: dict[tuple[str, Severity], list[str]] = defaultdict(list)
    for name, cases in _channels(survey).items():
        per_image = _per_image(survey, name)
        for group, members in _groups(cases):
            where = "of the other cases" if group is None else f"of group {group}"
            for facts, kind, what in _strange(members):
                severity: Severity = "note" if per_image and kind == "scale" else "warning"
                deviations[facts.id, severity].append(f"channel {name} {what} {where}")
    findings = []
    for (case, severity), lines in deviations.items():
        more = f", and {len(lines) - 1} more channel(s)" if len(lines) > 1 else ""
        fix = "check the unit and the rescaling of its image (slope, 8 against 16 bits, HU), or take the case out"
        if severity == "note":
            fix = "nothing: normalisation by image takes scales away"
        findings.append(Finding("intensity", severity, (case,), f"{case}: {lines[0]}{more}", fix))
    return findings


def _channels(survey: Survey) -> dict[str, list[tuple[CaseFacts, ChannelFacts]]]:
    by_name: dict[str, list[tuple[CaseFacts, ChannelFacts]]] = defaultdict(list)
    for facts in survey.cases:
        if facts.case.days:
            continue  # dates differ in season and clouds
        for channel in facts.channels:
            if channel.n_valid:
                by_name[channel.name].append((facts, channel))
    return by_name


def _per_image(survey: Survey, name: str) -> bool:
    """Whether the scale of a channel is taken away case by case."""
    schemes = {c.name: s for c, s in zip(survey.spec.channels, survey.normalisation, strict=True)}
    return schemes.get(name) in ("zscore", "unit_range", "percentile")


def _groups(
    cases: Sequence[tuple[CaseFacts, ChannelFacts]],
) -> Iterator[tuple[str | None, list[tuple[CaseFacts, ChannelFacts]]]]:
    by_group: dict[str, list[tuple[CaseFacts, ChannelFacts]]] = defaultdict(list)
    for facts, channel in cases:
        by_group[facts.case.group].append((facts, channel))
    large = {group: members for group, members in by_group.items() if len(members) >= _FEWEST}
    if not large or len(large) == 1 == len(by_group):
        yield None, list(cases)
        return
    yield from large.items()
    small = [member for group, members in by_group.items() if group not in large for member in members]
    if len(small) >= _FEWEST:
        yield None, small


def _strange(members: Sequence[tuple[CaseFacts, ChannelFacts]]) -> Iterator[tuple[CaseFacts, str, str]]:
    if len(members) < _FEWEST:
        return
    quantiles = np.array([channel.quantiles for _, channel in members])[:, [0, 2, 4]]
    widths = np.maximum(quantiles[:, 2] - quantiles[:, 0], 1e-9 * np.abs(quantiles).max(axis=1) + 1e-30)
    logs, places = np.log(widths), quantiles[:, 1]
    off = _distances(logs)
    typical = float(np.median(widths))
    spread = max(1.4826 * float(np.median(np.abs(places - np.median(places)))), 1e-30)
    for (facts, channel), log, distance, place in zip(members, logs, off, places, strict=True):
        if _has_other_findings(channel):
            continue
        times = float(np.exp(abs(log - np.median(logs))))
        shift = abs(place - float(np.median(places)))
        if times > _TIMES and distance > _DEVIATIONS:
            wider = "wider" if log > np.median(logs) else "narrower"
            yield facts, "scale", f"has a histogram {times:.3g} times {wider} than that"
        elif shift > 3 * typical and shift > 8 * spread:
            yield facts, "place", f"has its median at {place:.4g}, far from that ({np.median(places):.4g})"


def _has_other_findings(channel: ChannelFacts) -> bool:
    """Whether it is constant, or has cells without data that are not tagged so."""
    return channel.minimum == channel.maximum or bool(sentinels(channel))


def _distances(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Deviations from the median, in robust standard deviations."""
    apart = np.abs(values - np.median(values))
    return np.asarray(apart / max(1.4826 * float(np.median(apart)), 0.05))
