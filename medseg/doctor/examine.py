"""Examine: a survey of a dataset, and what every check finds in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from medseg.data.case import Case, refusals
from medseg.data.dataset import Dataset
from medseg.doctor.checks import (
    annotated,
    channels,
    duplicates,
    files,
    grids,
    headers,
    intensities,
    labels,
    memory,
    shapes,
    sides,
)
from medseg.doctor.checks import spacing as spacings
from medseg.doctor.finding import Finding, collapsed
from medseg.doctor.listing import listed
from medseg.doctor.survey import CaseFacts, Survey, case_headers, with_contents
from medseg.runtime.progress import watched

Check = Callable[[Survey], Sequence[Finding]]

FAST: tuple[Check, ...] = (
    files.unreadable, files.lossy, grids.grids, headers.forms, headers.skew, headers.georeference, spacings.spacing,
    sides.undeclared_pairs, annotated.nobody, duplicates.places, memory.memory,
)  # fmt: skip
"""Checks that read headers only."""
SLOW: tuple[Check, ...] = (
    labels.values, labels.unseen, annotated.contradictions, annotated.never_present,
    shapes.empty, shapes.sizes, shapes.pieces, shapes.balance, channels.constant,
    channels.duplicated, channels.exchanged, channels.missing_data, channels.untagged_nodata, intensities.outliers,
    duplicates.images, duplicates.labels, sides.swapped_sides,
)  # fmt: skip
"""Checks that need every cell to have been read."""

_DRAWN = 300
"""Number of cases with a thumbnail, so that memory stays bounded."""


def examine(
    dataset: Dataset,
    *,
    labels_in: str = "data.labels",
    wishes: Mapping[str, object] | None = None,
    contents: bool = True,
) -> tuple[Survey, list[Finding]]:
    """One pass over a dataset.

    Args:
        dataset: The dataset.
        labels_in: Where its label table is declared, for the fixes: ``data.labels``, or the name of a file.
        wishes: See ``Survey``.
        contents: Read every cell; else headers only.

    Returns:
        The facts of every case, and the findings, errors first.

    Raises:
        InputError: There is no case at all.
    """
    cases, tests, findings = listed(dataset)
    with refusals():  # the slots of a time series are counted over its cases
        spec = dataset.spec
    facts = list(_facts(dataset, [(c, False) for c in cases] + [(c, True) for c in tests], contents=contents))
    survey = Survey(spec, dataset.reading, dataset.normalisation, tuple(facts), labels_in, wishes or {})
    for check in (*FAST, *(SLOW if contents else ())):
        findings += check(survey)
    explained = {case for finding in findings if finding.severity == "error" for case in finding.cases}
    findings += files.refused(survey, explained)
    return survey, collapsed(findings, len(facts))


def fast(dataset: Dataset, *, wishes: Mapping[str, object] | None = None) -> list[Finding]:
    """The fast part, which reads headers only: orphans, unreadable files, grids, spacing, sides, footprints, memory.

    Args:
        dataset: The dataset.
        wishes: See ``Survey``.

    Returns:
        Findings, errors first; a training would fail on those of severity ``error``.

    Raises:
        InputError: There is no case at all.
    """
    return examine(dataset, wishes=wishes, contents=False)[1]


def _facts(dataset: Dataset, cases: Sequence[tuple[Case, bool]], *, contents: bool) -> Iterator[CaseFacts]:
    if not contents:
        for case, test in cases:
            yield case_headers(dataset, case, test=test)
        return
    spec, reading = dataset.spec, dataset.reading
    every = -(-len(cases) // _DRAWN)
    for number, (case, test) in enumerate(watched(cases, "examining")):
        facts = case_headers(dataset, case, test=test)
        yield with_contents(facts, spec, reading, drawn=number % every == 0)
