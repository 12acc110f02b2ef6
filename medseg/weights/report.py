"""Report: what became of every tensor when weights were loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import floor
from typing import Any, Literal, get_args

How = Literal["copied", "adapted", "random", "kept", "unexpected"]
_SEVERAL = 5
"""Names, groups or lines that a compact table shows before it counts the rest."""


@dataclass(frozen=True)
class Row:
    """One tensor: of the encoder, or of the file where the encoder has no place for it.

    Attributes:
        name: In the encoder, or in the file.
        how: ``copied``; ``adapted`` (``note`` says how); ``random``: left as the encoder was initialised; ``kept``:
            a buffer that the encoder computes itself; ``unexpected``: in the file only.
        numbers: How many values it has.
        note: Details.
        counts: Whether it is one of the encoder's parameters. Buffers, and the second name of a parameter that
            two places share, are not.
    """

    name: str
    how: How
    numbers: int
    note: str = ""
    counts: bool = True


@dataclass(frozen=True)
class Report:
    """The account of one loading.

    Attributes:
        source: Where the weights are from.
        rows: Every tensor.
        channels: How each channel of the data got its part of the stem: channel, and from what.
        warnings: What does not fit (units, statistics, shapes), a line each.
        prefix: How names of the file became names of the encoder, in words; empty if they are the same.
        normalisation: How the images were prepared that the weights were trained on, in words; empty if unknown.
        digest: SHA-256 of the file of the weights; empty if they are from elsewhere.
        branches: Of several encoders that are joined, the account of each by its name; what else stands here is of all.
    """

    source: str
    rows: tuple[Row, ...]
    channels: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=())
    prefix: str = ""
    normalisation: str = ""
    digest: str = ""
    branches: tuple[tuple[str, Report], ...] = ()

    @property
    def share(self) -> float:
        """Share of the encoder's parameters that came from the weights, in [0, 1]; by numbers, not by tensors."""
        return self._covered / max(1, self._parameters)

    @property
    def _parameters(self) -> int:
        return sum(row.numbers for row in self.rows if row.counts and row.how != "unexpected")

    @property
    def _covered(self) -> int:
        return sum(row.numbers for row in self.rows if row.counts and row.how in ("copied", "adapted"))

    def named(self, *hows: How) -> list[str]:
        """Tensors of which one of these became."""
        return [row.name for row in self.rows if row.how in hows]

    def table(self, full: bool = False) -> str:
        """The account as plain text: where from, channels, then tensors by what became of them.

        Args:
            full: Every tensor on a line of its own, instead of names grouped by what they begin with.

        Example:
            >>> rows = (Row("stem.weight", "adapted", 64, "channels"), Row("head.bias", "unexpected", 2))
            >>> print(Report("net.pt", rows, (("B4", "copied from red"),)).table())
            weights of net.pt: 100 % of 64 parameters
            channel  from
            B4       copied from red
            tensors     number  values  names
            adapted          1      64  stem.weight: channels
            unexpected       1       2  head.bias
        """
        if self.branches:
            return "\n".join(f"branch {name}: {report.table(full)}" for name, report in self.branches)
        lines = [
            f"weights of {self.source}: {percent(self.share)} of {_amount(self._parameters)} parameters"
            + (f"; {self.prefix}" if self.prefix else "")
        ]
        if self.normalisation:
            lines.append(f"trained on {self.normalisation}; medseg normalises as the plan says")
        lines += _channel_lines(self.channels, full)
        lines.append(f"{'tensors':<10}  {'number':>6}  {'values':>6}  names")
        for how in get_args(How):
            lines += _lines_of(how, [row for row in self.rows if row.how == how], full)
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])

    def to_dict(self) -> dict[str, object]:
        """JSON-able form, with the share; ``from_dict`` is its inverse."""
        stored = asdict(replace(self, branches=()))
        del stored["branches"]
        of_branches = {"branches": [[name, one.to_dict()] for name, one in self.branches]} if self.branches else {}
        return (
            stored
            | of_branches
            | {
                "share": self.share,
                "rows": list(stored["rows"]),
                "channels": [list(pair) for pair in self.channels],
                "warnings": list(self.warnings),
            }
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Report:
        """Rebuild what ``to_dict`` gave."""
        return cls(
            source=stored["source"],
            rows=tuple(Row(**row) for row in stored["rows"]),
            channels=tuple((name, origin) for name, origin in stored["channels"]),
            warnings=tuple(stored["warnings"]),
            prefix=stored["prefix"],
            normalisation=stored["normalisation"],
            digest=stored.get("digest", ""),
            branches=tuple((name, cls.from_dict(one)) for name, one in stored.get("branches", [])),
        )


def joined(reports: Mapping[str, Report]) -> Report:
    """One account of several encoders, by the names of their branches.

    Example:
        >>> one = Report("net.pt", (Row("stem.weight", "copied", 64),), warnings=("other units",))
        >>> both = joined({"optical": one, "radar": one})
        >>> both.source, [row.name for row in both.rows], both.warnings[0]
        ('optical: net.pt, radar: net.pt', ['optical.stem.weight', 'radar.stem.weight'], 'optical: other units')
    """
    branches = tuple(reports.items())
    return Report(
        source=", ".join(f"{name}: {report.source}" for name, report in branches),
        rows=tuple(replace(row, name=f"{name}.{row.name}") for name, report in branches for row in report.rows),
        channels=tuple((f"{name}: {c}", origin) for name, report in branches for c, origin in report.channels),
        warnings=tuple(f"{name}: {warning}" for name, report in branches for warning in report.warnings),
        digest=" ".join(filter(None, (report.digest for _, report in branches))),
        branches=branches,
    )


def percent(share: float) -> str:
    """A share in per cent, rounded down, so that 100 % is all of it.

    Example:
        >>> percent(0.99999), percent(1.0), percent(0.5)
        ('99.9 %', '100 %', '50 %')
    """
    return f"{floor(share * 1000) / 10:g} %"


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of several names, and how many more there are.

    Example:
        >>> some(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def grouped(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names in groups by what they begin with: one more part than all have in common.

    Returns:
        A group each: the name of its only member, or its beginning and ``*``; and its members. In order.

    Example:
        >>> grouped(["net.stem.weight", "net.layer.0.weight", "net.layer.1.weight"])
        [('net.stem.weight', 1), ('net.layer.*', 2)]
    """
    parts = [name.split(".") for name in names]
    shared = 0
    while len({tuple(p[: shared + 1]) for p in parts}) == 1 and all(len(p) > shared + 1 for p in parts):
        shared += 1
    groups: dict[str, list[str]] = {}
    for name, part in zip(names, parts, strict=True):
        groups.setdefault(".".join(part[: shared + 1]), []).append(name)
    return [(members[0] if len(members) == 1 else f"{start}.*", len(members)) for start, members in groups.items()]


def _amount(numbers: int) -> str:
    """Values, in thousands or millions."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if numbers >= size:
            return f"{numbers / size:.3g}{letter}" if numbers < 1000 * size else f"{numbers // size}{letter}"
    return str(numbers)


def _channel_lines(channels: Sequence[tuple[str, str]], full: bool) -> list[str]:
    if not channels:
        return []
    width = max(len("channel"), *(len(name) for name, _ in channels))
    lines = [f"{name:<{width}}  {origin}" for name, origin in channels]
    if len(lines) > 2 * _SEVERAL and not full:
        lines[2 * _SEVERAL :] = [f"{'…':<{width}}  and {len(lines) - 2 * _SEVERAL} channels more"]
    return [f"{'channel':<{width}}  from", *lines]


def _lines_of(how: How, rows: Sequence[Row], full: bool) -> list[str]:
    """The part of the table for what became of these tensors: a line each, or their counts and names in groups."""
    if not rows:
        return []
    if full:
        return [_line(how, 1, row.numbers, f"{row.name}: {row.note}" if row.note else row.name) for row in rows]
    first, *further = _groups(how, rows)
    return [_line(how, len(rows), sum(row.numbers for row in rows), first), *(" " * 28 + name for name in further)]


def _line(how: How, tensors: int, numbers: int, names: str) -> str:
    return f"{how:<10}  {tensors:>6}  {_amount(numbers):>6}  {names}"


def _groups(how: How, rows: Sequence[Row]) -> list[str]:
    """Names without a note in groups on one line, then a line for each note with the first names that have it."""
    plain = [f"{start} ({members})" if members > 1 else start for start, members in _grouped_plain(rows)]
    by_note: dict[str, list[str]] = {}
    for row in rows:
        by_note.setdefault(row.note, []).append(row.name)
    noted = [f"{some(members, 2)}: {note}" for note, members in by_note.items() if note]
    most = max(1, _SEVERAL - 1 - bool(plain))
    if len(noted) > most + 1:
        noted[most:] = [f"and {len(noted) - most} more {how}"]
    return [*([some(plain, _SEVERAL)] if plain else []), *noted]


def _grouped_plain(rows: Sequence[Row]) -> list[tuple[str, int]]:
    return grouped([row.name for row in rows if not row.note])
