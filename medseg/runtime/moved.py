"""Class paths and configuration keys of earlier versions, and what they are called today.

Class paths are data: they stand in checkpoints, in ``config.yaml`` of runs and in users' own files. Those that moved
are answered by today's; a class that moves adds a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASSES: Mapping[str, str] = {}
"""Old class path -> today's; every ``_target_`` that a configuration of an earlier version may hold."""
GROUPS: Mapping[str, str] = {}
"""Old top-level key of the configuration -> today's."""
DEEPEST = 50
"""Levels of nested values that are looked at."""


def updated(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of any earlier version with today's class paths and top-level keys.

    Args:
        config: Plain values, such as those of a checkpoint; it is not changed.

    Example:
        >>> updated({"seed": 0, "model": {"_target_": "medseg.models.unet.UNet"}})
        {'seed': 0, 'model': {'_target_': 'medseg.models.unet.UNet'}}
    """
    walk = _Walk()
    return {GROUPS.get(key, key): walk(value) for key, value in config.items()}


class _Walk:
    """Copies nested values with today's class paths.

    Files of strangers may nest without end, or hold one list a million times: each is copied once, and what lies
    deeper than any configuration stays as it is, for the checks of what is built (``trust``) to refuse.
    """

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if not isinstance(value, (Mapping, list)) or depth > DEEPEST:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        self._copies[id(value)] = value  # one that holds itself stays as it is
        if isinstance(value, list):
            copy: Any = [self(inner, depth + 1) for inner in value]
        else:
            copy = {key: self(inner, depth + 1) for key, inner in value.items()}
            target = copy.get("_target_")
            if isinstance(target, str):
                copy["_target_"] = CLASSES.get(target, target)
        self._copies[id(value)] = copy
        return copy
