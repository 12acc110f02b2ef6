"""Files that can't be read, and cases that a training can't open."""

from __future__ import annotations

from collections.abc import Collection

from medseg.doctor.finding import Finding
from medseg.doctor.survey import Survey


def unreadable(survey: Survey) -> list[Finding]:
    """Files that can't be opened, or whose cells can't be decoded."""
    fix = "copy the file again from its source, or take the case out; fix=true leaves it out"
    return [
        Finding("unreadable", "error", (facts.id,), line, fix)
        for facts in survey.cases
        for line in (*(h.error for h in facts.headers if h.error), *facts.damage)
    ]


def lossy(survey: Survey) -> list[Finding]:
    """Labels stored as JPEG, which changes the values along every border."""
    labels = [(facts.id, facts.case.label) for facts in survey.cases if facts.case.label is not None]
    return [
        Finding(
            "lossy label", "error", (case,), f"{path}: a label as JPEG, whose values are not those that were drawn",
            "export the label again as PNG or TIFF",
        )
        for case, path in labels
        if path.suffix.lower() in (".jpg", ".jpeg")
    ]  # fmt: skip


def refused(survey: Survey, explained: Collection[str]) -> list[Finding]:
    """Cases that a training can't open for a reason that no other check names.

    Args:
        survey: The dataset.
        explained: Cases for which another check found an error.
    """
    return [
        Finding("refused", "error", (facts.id,), facts.refusal, "see the message")
        for facts in survey.cases
        if facts.refusal and facts.id not in explained
    ]
