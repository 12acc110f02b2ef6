"""Duplicates: cases of equal content, also across the test set, and places that several cases show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from medseg.data.case import Case
from medseg.data.splits.leakage import Leak, shared_ground
from medseg.doctor.finding import Finding, Severity
from medseg.doctor.survey import CaseFacts, Survey
from medseg.geometry.grid import PIXEL, RAS_MM

_PLACE = 0.02
"""Share of a case's ground, shared with another one, from which on it is said."""


def images(survey: Survey) -> list[Finding]:
    """Cases with the same image, or the same values in another order (flipped, turned)."""
    exact = _alike([(f, _digests(f)) for f in survey.cases if _varied(f)])
    findings = [_finding(group, "have the same image, cell for cell") for group in exact]
    duplicates = {facts.id for group in exact for facts in group}
    turned = _alike([(f, _unordered(f)) for f in survey.cases if _varied(f) and f.id not in duplicates])
    return findings + [
        _finding(group, "have the same values in another order (flipped or turned?)") for group in turned
    ]


def labels(survey: Survey) -> list[Finding]:
    """Labels that are equal though the images differ; ordinary for several images of one place."""
    labelled = [(f, f.label.digest) for f in survey.cases if f.label is not None and len(f.label.values) > 1]
    same_image = [_ids(group) for group in _alike([(f, _digests(f)) for f in survey.cases])]
    groups = [group for group in _alike(labelled) if not any(_ids(group) <= ids for ids in same_image)]
    return [_same_label(group) for group in groups]


def _same_label(group: Sequence[CaseFacts]) -> Finding:
    grids = [f.grid for f in group if f.grid is not None]
    placed = all(g.frame != PIXEL and g.offset_from(grids[0]) < 0.5 for g in grids)
    severity: Severity = "note" if placed else "warning"
    fix = "data.groups=... keeps them in one fold" if placed else "one of them has the label of another: replace it"
    ids = tuple(sorted(_ids(group)))
    return Finding("same label", severity, ids, f"{', '.join(ids)} have the same label and different images", fix)


def _ids(group: Sequence[CaseFacts]) -> frozenset[str]:
    return frozenset(facts.id for facts in group)


def _digests(facts: CaseFacts) -> Hashable:
    """Equal for images that are equal cell for cell."""
    return tuple(c.digest for c in facts.channels)


def _varied(facts: CaseFacts) -> bool:
    return bool(facts.channels) and any(c.minimum < c.maximum for c in facts.channels)


def _unordered(facts: CaseFacts) -> Hashable:
    """What flips and quarter turns leave as it is."""
    return tuple(
        (c.cells, c.n_valid, c.minimum, c.maximum, c.at_minimum, c.at_maximum, float(f"{c.total:.9e}"))
        for c in facts.channels
    )


def _alike(keyed: Sequence[tuple[CaseFacts, Hashable]]) -> list[list[CaseFacts]]:
    groups: dict[Hashable, list[CaseFacts]] = defaultdict(list)
    for facts, key in keyed:
        groups[key].append(facts)
    return [group for group in groups.values() if len(group) > 1]


def _finding(group: Sequence[CaseFacts], what: str) -> Finding:
    ids = [facts.id for facts in group]
    crossing = len({facts.test for facts in group}) > 1
    message = f"{', '.join(ids)} {what}" + ("; some of them are in the test set" if crossing else "")
    fix = f"delete all but {ids[0]}; if they belong together, data.groups=... keeps them in one fold"
    return Finding("duplicate", "error" if crossing else "warning", tuple(ids), message, fix)


def places(survey: Survey) -> list[Finding]:
    """Scenes whose footprints overlap and that no group keeps together."""
    grids = {f.id: f.grid for f in survey.readable if f.grid is not None and f.grid.frame not in (PIXEL, RAS_MM)}
    bare = [replace(f.case, images=(), label=None) for f in survey.cases if f.id in grids]
    overlaps = _overlaps(shared_ground(bare, bare, lambda case: grids[case.id]))
    findings = [_same_ground(pair, leak) for pair, leak in overlaps.items() if not _together(bare, pair)]
    return list(_merged(findings))


def _overlaps(leaks: Sequence[Leak]) -> dict[frozenset[str], Leak]:
    """The first overlap of each pair of cases that is large enough."""
    pairs: dict[frozenset[str], Leak] = {}
    for leak in leaks:
        if leak.share >= _PLACE and leak.train != leak.val:
            pairs.setdefault(frozenset((leak.train, leak.val)), leak)
    return pairs


def _same_ground(pair: frozenset[str], leak: Leak) -> Finding:
    one, other = sorted(pair)
    message = f"{one} and {other} show the same ground ({leak.share:.0%} of {leak.val})"
    fix = "data.groups=... (a pattern or a csv of case,group) keeps them in one fold"
    return Finding("footprint", "warning", (one, other), message, fix)


def _together(cases: Sequence[Case], pair: frozenset[str]) -> bool:
    return len({case.group for case in cases if case.id in pair}) == 1


def _merged(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Pairs that share a case, as one finding."""
    clusters: list[set[str]] = []
    for finding in findings:
        touching = [c for c in clusters if c & set(finding.cases)]
        clusters = [c for c in clusters if c not in touching] + [set(finding.cases).union(*touching)]
    for cluster in clusters:
        inside = [f for f in findings if set(f.cases) <= cluster]
        more = f", and {len(inside) - 1} more such pairs" if len(inside) > 1 else ""
        yield replace(inside[0], cases=tuple(sorted(cluster)), message=inside[0].message + more)
