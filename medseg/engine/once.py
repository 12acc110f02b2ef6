"""What a process that works on many cases makes once, such as a predictor from the file of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

V = TypeVar("V")

_KEPT: dict[str, Any] = {}


def once(key: str, make: Callable[[], V]) -> V:
    """The value of ``key`` in this process: made when it is first asked for, and kept until another key is.

    Example:
        >>> once("a", lambda: [1]) is once("a", lambda: [1])
        True
    """
    if key not in _KEPT:
        _KEPT.clear()  # before the next one needs memory
        _KEPT[key] = make()
    value: V = _KEPT[key]
    return value
