"""Scores by the channels that cases have, where some lack some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medseg.metrics.accumulate import CaseScores
from medseg.metrics.subgroups import means_of


def with_availability(
    result: Mapping[str, Any], scores: CaseScores, channels: Sequence[str], lacks: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The content of ``metrics.json`` with means by the channels that cases have, as ``availability``.

    Each row of ``cases`` gets ``lacks``, the channels that its case lacks. Nothing changes where no case lacks any.

    Args:
        result: Of all cases.
        scores: Which gave it.
        channels: Names of all channels, in order.
        lacks: Channels that each case lacks.
    """
    if not any(lacks.values()):
        return dict(result)
    rows = [{**row, "lacks": " ".join(lacks[row["case"]])} for row in result["cases"]]
    of_pattern: dict[tuple[str, ...], list[str]] = {}
    for case in dict.fromkeys(row["case"] for row in rows):
        there = tuple(name for name in channels if name not in lacks[case])
        of_pattern.setdefault(there, []).append(case)
    patterns = sorted(of_pattern, key=lambda there: (-len(there), [channels.index(name) for name in there]))
    parts = [{"channels": list(there), **means_of(scores, of_pattern[there])} for there in patterns]
    return {**result, "cases": rows, "availability": parts}
