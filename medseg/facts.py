"""Facts of cases that are no cells, such as age, sex or site: what they are, and the numbers that a network sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from medseg.errors import InputError
from medseg.runtime.values import listed, mapped, number, text

NUMBER, WORD, TAGS = KINDS = ("number", "word", "tags")
"""A quantity; one of some words; any of some words, separated by ``;``."""
NO_CLASS = -1
"""Index of the class of a case whose class is not known."""
_MISSING = ("", "na", "n/a", "nan")
_MOST_VALUES = 256


@dataclass(frozen=True)
class Fact:
    """One fact that cases have, as the training cases have it.

    It is encoded as ``width`` numbers. Of a number these are its standardised value (0 where it is missing); of a word
    and of tags an indicator of each value. The last one is 1 where the fact is missing, or only has values that no
    training case has.

    Attributes:
        name: Column of the table.
        kind: ``number``, ``word`` or ``tags``.
        values: Of a word and of tags, the values of the training cases, sorted.
        mean: Of a number, over the training cases.
        std: Its standard deviation; 1 where all are equal.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    @property
    def width(self) -> int:
        """Numbers that encode it."""
        return 1 + (1 if self.kind == NUMBER else len(self.values))

    def fitted(self, texts: Sequence[str]) -> Fact:
        """The same fact, with values or statistics of these cases.

        Raises:
            InputError: It is missing in all of them, or has too many values.
        """
        present = [value for value in texts if not is_missing(value)]
        if not present:
            raise InputError(
                f"data.facts: no training case has a value of {self.name}; fill the column, or leave it out"
            )
        if self.kind == NUMBER:
            numbers = np.array([float(value) for value in present])
            return replace(self, mean=float(numbers.mean()), std=float(numbers.std()) or 1.0)
        values = sorted({part for value in present for part in self.parts(value)})
        if len(values) > _MOST_VALUES:
            raise InputError(
                f"data.facts: {self.name} has {len(values)} values ({', '.join(values[:3])}, ...), expected at most "
                f"{_MOST_VALUES}; leave it out, or declare it as data.facts={{{self.name}: number}}"
            )
        return replace(self, values=tuple(values))

    def parts(self, value: str) -> tuple[str, ...]:
        """Values in a cell of the table, of tags any number; none where it is missing."""
        if self.kind == TAGS:
            return () if is_missing(value) else tuple(part for part in map(str.strip, value.split(";")) if part)
        return () if is_missing(value) else (value,)

    def unknown(self, value: str) -> tuple[str, ...]:
        """Values in a cell of the table that no training case has."""
        return () if self.kind == NUMBER else tuple(part for part in self.parts(value) if part not in self.values)

    def encode(self, value: str) -> list[float]:
        """The numbers that encode a cell of the table.

        Example:
            >>> Fact("age", "number", mean=50.0, std=10.0).encode("65"), Fact("sex", "word", ("F", "M")).encode("")
            ([1.5, 0.0], [0.0, 0.0, 1.0])
        """
        if self.kind == NUMBER:
            return [0.0, 1.0] if is_missing(value) else [(float(value) - self.mean) / self.std, 0.0]
        parts = self.parts(value)
        indicators = [float(one in parts) for one in self.values]
        without = is_missing(value) or (bool(parts) and not any(indicators))
        return [*indicators, float(without)]

    def summary(self) -> str:
        """The fact in a few words, for messages.

        Example:
            >>> Fact("age", "number", mean=50.0, std=10.0).summary(), Fact("sex", "word", ("F", "M")).summary()
            ('age (number, 50 ± 10)', 'sex (word: F, M)')
        """
        if self.kind == NUMBER:
            return f"{self.name} (number, {self.mean:.4g} ± {self.std:.4g})"
        shown = ", ".join(self.values[:5]) + (", ..." if len(self.values) > 5 else "")
        return f"{self.name} ({self.kind}: {shown})"

    def to_dict(self) -> dict[str, object]:
        """JSON-able form; ``from_dict`` is its inverse."""
        own: dict[str, object] = {"name": self.name, "kind": self.kind}
        if self.kind == NUMBER:
            return own | {"mean": self.mean, "std": self.std}
        return own | {"values": list(self.values)}

    @classmethod
    def from_dict(cls, stored: object, key: str) -> Fact:
        """Rebuild what ``to_dict`` gave.

        Raises:
            InputError: Something that ``to_dict`` does not give; names the key.
        """
        held: Mapping[str, Any] = mapped(stored, key, ["name", "kind"])
        kind = text(held["kind"], f"{key}.kind")
        if kind not in KINDS:
            raise InputError(f"{key}.kind={kind}: expected one of {', '.join(KINDS)}")
        return cls(
            name=text(held["name"], f"{key}.name"),
            kind=kind,
            values=tuple(text(value, f"{key}.values") for value in listed(held.get("values", []), f"{key}.values")),
            mean=number(held.get("mean", 0.0), f"{key}.mean"),
            std=number(held.get("std", 1.0), f"{key}.std", above=0),
        )


@dataclass(frozen=True)
class CaseFacts:
    """The facts of one case.

    Attributes:
        facts: What they are.
        texts: The cell of the table of each, in the same order; empty where it is missing.
        label: What the class of a case means, for networks that classify cases; None for others.
        label_text: The class of the case; empty where it is not known.
    """

    facts: tuple[Fact, ...] = ()
    texts: tuple[str, ...] = ()
    label: Fact | None = None
    label_text: str = ""

    def __getitem__(self, name: str) -> str:
        """The cell of the table of a fact.

        Raises:
            KeyError: There is no such fact.
        """
        return self._by_name[name]

    @classmethod
    def of(cls, values: Mapping[str, object], facts: tuple[Fact, ...]) -> CaseFacts:
        """The facts of one case by name, such as ``{"age": 54, "signs": ["mass"]}``; others are missing.

        Raises:
            InputError: A name that is no fact, or a number that is none.
        """
        if unknown := sorted(values.keys() - {fact.name for fact in facts}):
            raise InputError(f"facts: got {unknown[0]}, the network takes {', '.join(fact.name for fact in facts)}")
        texts = tuple(_as_text(values.get(fact.name)) for fact in facts)
        for fact, value in zip(facts, texts, strict=True):
            check_kind(fact.name, fact.kind, {"case": value})
        return cls(facts, texts)

    @cached_property
    def _by_name(self) -> dict[str, str]:
        by_name = {fact.name: value for fact, value in zip(self.facts, self.texts, strict=True)}
        return by_name | ({self.label.name: self.label_text} if self.label else {})

    @cached_property
    def encoded(self) -> Float[np.ndarray, " f"]:
        """The numbers that a network sees; none where there are no facts."""
        return self.encoded_by(self.facts)

    def encoded_by(self, facts: Sequence[Fact]) -> Float[np.ndarray, " f"]:
        """The numbers that a network sees which was trained on other cases; facts that are not there are missing."""
        numbers = [x for fact in facts for x in fact.encode(self._by_name.get(fact.name, ""))]
        return np.array(numbers, dtype=np.float32)

    @property
    def label_index(self) -> int:
        """Index of the class of the case, or ``NO_CLASS``."""
        if self.label is None or self.label_text not in self.label.values:
            return NO_CLASS
        return self.label.values.index(self.label_text)

    def refitted(self, facts: tuple[Fact, ...], label: Fact | None) -> CaseFacts:
        """The same cells of the table by name, whose facts have values and statistics of other cases."""
        texts = tuple(self._by_name.get(fact.name, "") for fact in facts)
        return CaseFacts(facts, texts, label, self._by_name.get(label.name, "") if label else "")


def _as_text(value: object) -> str:
    """A value as a cell of a table has it."""
    if value is None:
        return ""
    return ";".join(map(str, value)) or ";" if isinstance(value, (list, tuple, set)) else str(value)


def is_missing(value: str) -> bool:
    """Whether a cell of a table holds nothing: it is empty, or ``NA``, ``N/A``, ``NaN`` in any letter case."""
    return value.strip().lower() in _MISSING


def is_number(value: str) -> bool:
    """Whether a cell of a table holds a finite number."""
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def inferred_kind(name: str, texts: Mapping[str, str]) -> str:
    """The kind of a column: tags where a ``;`` stands in it, a number where all of its values are, else a word.

    Args:
        name: Of the column, for messages.
        texts: Its cells by case.

    Raises:
        InputError: Most of its values are numbers, and some are not.
    """
    present = {case: value for case, value in texts.items() if not is_missing(value)}
    words = {case: value for case, value in present.items() if not is_number(value)}
    if any(";" in value for value in words.values()):
        return TAGS
    if present and not words:
        return NUMBER
    if len(words) * 2 < len(present):
        raise InputError(
            f"{_no_numbers(name, words)}; fix the table, or declare the kind: 'data.facts={{{name}: word}}'"
        )
    return WORD


def check_kind(name: str, kind: object, texts: Mapping[str, str]) -> str:
    """The kind of a column that the configuration declares.

    Raises:
        InputError: No such kind, or a column of numbers with words in it.
    """
    if kind not in KINDS:
        raise InputError(f"data.facts.{name}={kind}: expected one of {', '.join(KINDS)}, or null to infer it")
    words = {case: value for case, value in texts.items() if not is_missing(value) and not is_number(value)}
    if kind == NUMBER and words:
        raise InputError(f"{_no_numbers(name, words)}; fix the table: a decimal point, and empty where it is missing")
    return str(kind)


def _no_numbers(name: str, words: Mapping[str, str]) -> str:
    shown = ", ".join(f"{case}: {value!r}" for case, value in list(words.items())[:5])
    return f"data.facts: column {name} has {len(words)} value(s) that are no number ({shown})"
