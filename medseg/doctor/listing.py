"""Listing: the cases of a dataset that are complete, and findings for the files that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medseg.data.case import Case, Refused, refusals
from medseg.data.dataset import Dataset
from medseg.doctor.finding import Finding
from medseg.errors import InputError, similar


def listed(dataset: Dataset) -> tuple[list[Case], list[Case], list[Finding]]:
    """Cases for training and validation, cases of the test set, and what could not be paired.

    Raises:
        InputError: There is no case at all, and the reason is not a single file: a missing folder, a wrong pattern.
    """
    cases, findings = _part(dataset.cases)
    tests, more = _part(dataset.test_cases)
    if not cases and not tests and all(not finding.cases for finding in findings + more):
        raise InputError(findings[0].message if findings else "data: no case was found; check data.root")
    doubles = sorted({c.id for c in cases} & {c.id for c in tests})
    if doubles:
        more.append(
            Finding(
                "duplicate", "warning", tuple(doubles), f"{len(doubles)} id(s) are in training and in the test set",
                "rename the files of the test set, or take the cases out of one of them",
            )
        )  # fmt: skip
    return cases, tests, [*findings, *more]


def _part(cases: Callable[[], list[Case]]) -> tuple[list[Case], list[Finding]]:
    try:
        with refusals() as refused:
            paired = cases()
    except InputError as error:
        return [], [*_orphans(refused), Finding("files", "error", (), str(error), "see the message")]
    return paired, _orphans(refused)


def _orphans(refused: Sequence[Refused]) -> list[Finding]:
    names = [name for one in refused for name in one.names]
    findings = []
    for one in refused:
        for name in one.names:
            near = similar(name, [n for n in names if n not in one.names], n=1, cutoff=0.8)
            fix = f"rename its file to {near[0]}, if they belong together; else " if near else ""
            findings.append(
                Finding(
                    "orphan",
                    "error",
                    (name.partition(" (")[0],),
                    f"{name}: {one.what}",
                    f"{fix}{one.way_out}; fix=true leaves it out",
                )
            )
    return findings
