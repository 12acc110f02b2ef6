"""Values: what a file holds, held to the type and the range that is expected of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medseg.errors import InputError

_WHOLE = (int, np.integer)
_NUMBERS = (*_WHOLE, float, np.floating)
_LARGEST = 1e300


def number(value: object, key: str, *, above: float = -math.inf, most: float = math.inf, finite: bool = True) -> float:
    """A number in (above, most]; with ``finite=False`` also an infinite one.

    Raises:
        InputError: Anything else, NaN included; names the key.

    Example:
        >>> number(2, "plan.spacing", above=0)
        2.0
    """
    if isinstance(value, _NUMBERS) and not isinstance(value, bool):
        amount: Any = value
        within = (above < amount or above == -math.inf) and amount <= most
        if within and _is_usable(amount, finite=finite):
            return float(amount)
    limits = "" if above == -math.inf and most == math.inf else f" above {above:g}, at most {most:g}"
    raise InputError(f"{key}={shown(value)}: expected a number{limits}")


def _is_usable(amount: float, *, finite: bool) -> bool:
    """Whether a number is neither NaN nor too large to compute with; infinite only if it may be."""
    return abs(amount) <= _LARGEST or (not finite and amount in (math.inf, -math.inf))


def whole(value: object, key: str, least: int, most: int) -> int:
    """A whole number in [least, most].

    Raises:
        InputError: Anything else; names the key.
    """
    if isinstance(value, _WHOLE) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    raise InputError(f"{key}={shown(value)}: expected a whole number from {least} to {most}")


def text(value: object, key: str) -> str:
    """Text.

    Raises:
        InputError: Anything else; names the key.
    """
    if isinstance(value, str):
        return value
    raise InputError(f"{key}={shown(value)}: expected text")


def truth(value: object, key: str) -> bool:
    """True or false.

    Raises:
        InputError: Anything else; names the key.
    """
    if isinstance(value, bool):
        return value
    raise InputError(f"{key}={shown(value)}: expected true or false")


def listed(value: object, key: str, length: Sequence[int] = ()) -> list[Any]:
    """A list, or a tuple.

    Args:
        value: Anything.
        key: Where it stands.
        length: Numbers of entries that it may have; empty for any.

    Raises:
        InputError: Anything else; names the key.
    """
    if isinstance(value, (list, tuple)) and (not length or len(value) in length):
        return list(value)
    count = " of " + " or ".join(map(str, length)) if length else ""
    raise InputError(f"{key}={shown(value)}: expected a list{count}")


def mapped(value: object, key: str, needed: Sequence[str] = (), known: Sequence[str] | None = None) -> dict[str, Any]:
    """A mapping whose keys are text.

    Args:
        value: Anything.
        key: Where it stands.
        needed: Keys that it must have.
        known: All keys that it may have; None for any.

    Raises:
        InputError: Anything else, a key that is missing, or one too many; names it.
    """
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{key}={shown(value)}: expected keys and values")
    if missing := [name for name in needed if name not in value]:
        raise InputError(f"{key}: {shown(missing[0], repr)} is missing")
    _check_known(list(value), key, list(value) if known is None else known)
    return dict(value)


def _check_known(names: Sequence[str], key: str, known: Sequence[str]) -> None:
    """Raise on a name that is none of those that are known."""
    if strange := [name for name in names if name not in known]:
        raise InputError(f"{key}: {shown(strange[0], repr)} is no key of it, expected {', '.join(known)}")


def shown(value: object, form: Any = str) -> str:
    """A value in a message: short, and on one line whatever it holds.

    Example:
        >>> shown([1, 2]), shown("a" * 100)[-5:]
        ('[1, 2]', 'aa...')
    """
    if isinstance(value, int) and abs(value) > 1 << 200:  # Python refuses to print very large ones
        return "a number of more than 60 digits"
    try:
        written = form(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    written = written if written.isprintable() else ascii(written)
    return written if len(written) <= 80 else f"{written[:77]}..."


def leaves(node: Mapping[str, object], prefix: str = "", *, empty: bool = False) -> Iterator[tuple[str, object]]:
    """Every value of nested mappings that is no mapping, with its keys joined by dots.

    Args:
        node: The outer mapping.
        prefix: Before every key, such as ``model.``.
        empty: Whether an empty mapping counts as a value.

    Example:
        >>> list(leaves({"a": 1, "b": {"c": [2], "d": {}}}))
        [('a', 1), ('b.c', [2])]
    """
    for key, value in node.items():
        if isinstance(value, Mapping) and (value or not empty):
            yield from leaves(value, f"{prefix}{key}.", empty=empty)
        else:
            yield f"{prefix}{key}", value
