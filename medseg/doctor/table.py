"""The findings as a table for the terminal, and as JSON."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medseg.data.case import first_five
from medseg.doctor.finding import SEVERITIES, Finding
from medseg.doctor.survey import Survey
from medseg.runtime.console import show

_LOG = logging.getLogger(__name__)

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
_ROWS = 60
"""Rows that are printed; the JSON has all."""


def summary(findings: Sequence[Finding], n_cases: int) -> str:
    """The number of findings, in a line.

    Example:
        >>> summary([], 3)
        '3 cases: nothing found'
    """
    counts = Counter(finding.severity for finding in findings)
    parts = [f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in SEVERITIES if counts[s]]
    return f"{n_cases} cases: {', '.join(parts) or 'nothing found'}"


def show_findings(findings: Sequence[Finding], n_cases: int) -> None:
    """Print the findings, errors first; off a terminal each in one block of lines that can be searched."""
    if Console().is_terminal and findings:
        show(_LOG, _table(findings[:_ROWS]))
    else:
        for finding in findings[:_ROWS]:
            show(_LOG, f"{finding.severity}: {finding.check}: {finding.message}\n  fix: {finding.fix}")
    if len(findings) > _ROWS:
        show(_LOG, f"... and {len(findings) - _ROWS} more, see check.json (output=DIR)")
    show(_LOG, summary(findings, n_cases))


def to_json(survey: Survey, findings: Sequence[Finding]) -> dict[str, object]:
    """What ``check.json`` holds."""
    counts = Counter(finding.severity for finding in findings)
    return {
        "cases": len(survey.cases),
        "test_cases": sum(facts.test for facts in survey.cases),
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "findings": [finding.to_dict() for finding in findings],
    }


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(show_lines=True, expand=True)
    for name, share in (("severity", 1), ("check", 2), ("case", 2), ("found", 6), ("fix", 4)):
        table.add_column(name, ratio=share, overflow="fold")
    for finding in findings:
        severity = Text(finding.severity, style=_COLOURS[finding.severity])
        cases = first_five(finding.cases) or "the dataset"
        table.add_row(severity, Text(finding.check), Text(cases), Text(finding.message), Text(finding.fix))
    return table
