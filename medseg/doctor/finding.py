"""Finding: one thing that is wrong with a dataset, with what fixes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]
"""``error``: a training can't use the data, or learns from wrong pairs. ``warning``: likely a defect. ``note``: good to
know; nothing is wrong."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_FEW = 5
"""Largest number of findings of one kind that are listed one by one."""


@dataclass(frozen=True)
class Repair:
    """What ``fix=true`` does to one file of the copy.

    Attributes:
        kind: Which function of ``fix`` does it.
        path: The file, in the dataset.
        settings: Its arguments, JSON-able.
    """

    kind: Literal["round", "remap", "geometry", "reorient", "nodata", "qform"]
    path: Path
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        check: Name of the check, such as ``grid``.
        severity: See ``Severity``.
        cases: Ids of the cases that it concerns; empty for the dataset.
        message: The actual and the expected state, in one line.
        fix: The command or key that fixes it.
        repairs: What ``fix=true`` does about it; empty if a person has to decide.
    """

    check: str
    severity: Severity
    cases: tuple[str, ...]
    message: str
    fix: str
    repairs: tuple[Repair, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """JSON-able form."""
        return {
            "check": self.check,
            "severity": self.severity,
            "cases": list(self.cases),
            "message": self.message,
            "fix": self.fix,
            "repaired_by_fix": [{"kind": r.kind, "path": str(r.path), **r.settings} for r in self.repairs],
        }


def collapsed(findings: Sequence[Finding], n_cases: int) -> list[Finding]:
    """Findings ordered by severity, and merged if one check and one fix concern most cases.

    Args:
        findings: In any order.
        n_cases: Cases of the dataset; more than five findings of one kind are merged if they are notes, or
            concern at least half of the cases.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        kind = finding.fix if len(finding.cases) == 1 else f"{finding.fix} {finding.message}"
        groups.setdefault((finding.check, finding.severity, kind), []).append(finding)
    merged: list[Finding] = []
    for group in groups.values():
        most = len(group) > _FEW and (2 * len(group) >= n_cases or group[0].severity == "note")
        merged += [_merged(group, n_cases)] if most else group
    return sorted(merged, key=lambda f: (SEVERITIES.index(f.severity), f.check, f.cases))


def _merged(group: Sequence[Finding], n_cases: int) -> Finding:
    """One finding of many cases, with the message of the first."""
    cases = tuple(case for finding in group for case in finding.cases)
    repairs = tuple(repair for finding in group for repair in finding.repairs)
    message = f"{len(group)} of {n_cases} cases, the first: {group[0].message}"
    return replace(group[0], cases=cases, message=message, repairs=repairs)


def wrong(findings: Sequence[Finding]) -> bool:
    """Whether anything is wrong: an error or a warning."""
    return any(finding.severity != "note" for finding in findings)
