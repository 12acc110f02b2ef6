"""Changes of nested values, one at a time, as damage or a stranger's editor would make them."""

import copy
import math
from collections.abc import Iterator
from typing import Any

DELETED = object()
OTHERS: tuple[Any, ...] = (DELETED, None, "word", -1, 0, 2**40, 10**400, math.nan, 1.5, [], {}, [[1]], True, b"x")

Path = tuple[Any, ...]


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """The keys that lead to every value below another, at any depth."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*at, key)
        yield from places(inner, (*at, key))


def changed(value: Any, at: Path, other: Any) -> Any:
    """A copy in which one value is another, or is left out."""
    key, *deeper = at
    made = copy.copy(value)
    if deeper:
        made[key] = changed(value[key], tuple(deeper), other)
    elif other is DELETED:
        del made[key]
    else:
        made[key] = other
    return made
