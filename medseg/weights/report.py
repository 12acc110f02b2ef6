"""Report: what became of every tensor when weights were loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

How = Literal["copied", "adapted", "random", "unexpected"]


@dataclass(frozen=True)
class Row:
    """One tensor: of the encoder, or of the file where the encoder has no place for it.

    Attributes:
        name: In the encoder, or in the file.
        how: Copied, adapted (``note`` says how), left random, or unexpected (in the file only).
        numbers: How many values it has.
        note: Details.
    """

    name: str
    how: How
    numbers: int
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The account of one loading.

    Attributes:
        source: Where the weights are from.
        rows: Every tensor.
        channels: How each channel of the data got its part of the stem: channel, and from what.
        warnings: What does not fit (units, statistics), a line each.
    """

    source: str
    rows: tuple[Row, ...]
    channels: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def share(self) -> float:
        """Share of the encoder's parameters that came from the weights, in [0, 1]."""
        own = [row for row in self.rows if row.how != "unexpected"]
        covered = sum(row.numbers for row in own if row.how in ("copied", "adapted"))
        return covered / max(1, sum(row.numbers for row in own))
