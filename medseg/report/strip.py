"""A strip plot with quartiles as inline SVG: every case is a dot with its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

_WIDTH, _ROW, _LEFT, _RIGHT = 420, 56, 12, 14
_LETTERS = 54  # that fit above a row


def strip_plot(values: Mapping[str, Sequence[tuple[str, float]]], *, label: str) -> str:
    """SVG with a row for each class, below its name: dots for cases, a box between the quartiles, a bar at the median.

    Args:
        values: By class, (case, value in [0, 1]) of each case.
        label: What the axis is.

    Returns:
        An ``<svg>`` element as wide as its place; names are escaped.
    """
    height = _ROW * len(values) + 40
    parts = [
        f'<svg class="strip" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)} of each case">'
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = _across(tick)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="4" y2="{height - 34}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{height - 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{_across(0.5)}" y="{height - 3}" text-anchor="middle">{escape(label)}</text>')
    for row, (name, cases) in enumerate(values.items()):
        parts += _row(name, cases, middle=_ROW * row + 37)
    return "".join([*parts, "</svg>"])


def _row(name: str, cases: Sequence[tuple[str, float]], *, middle: float) -> list[str]:
    short = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
    parts = [f'<text x="{_LEFT - 4}" y="{middle - 20}">{escape(short)}<title>{escape(name)}</title></text>']
    if cases:
        low, median, high = (_across(q) for q in np.percentile([value for _, value in cases], [25, 50, 75]))
        parts.append(f'<rect class="box" x="{low}" y="{middle - 14}" width="{round(high - low, 1)}" height="28"/>')
        parts.append(f'<line class="median" x1="{median}" x2="{median}" y1="{middle - 14}" y2="{middle + 14}"/>')
    for i, (case, value) in enumerate(cases):
        jitter = (i * 0.618034 % 1 - 0.5) * 20  # golden ratio: neighbours in the list fall apart
        parts.append(
            f'<circle class="dot" cx="{_across(value)}" cy="{round(middle + jitter, 1)}" r="3">'
            f"<title>{escape(case)}: {value:.3f}</title></circle>"
        )
    return parts


def _across(value: float) -> float:
    return round(_LEFT + value * (_WIDTH - _LEFT - _RIGHT), 1)
