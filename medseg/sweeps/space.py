"""Search space: the values that a sweep may choose for each key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

from medseg.errors import InputError


@runtime_checkable
class TrialLike(Protocol):
    """The methods of an Optuna trial that propose values."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: object) -> Any:
        """One of them."""
        ...


@dataclass(frozen=True)
class SearchDimension:
    """The values that one key of the configuration may take.

    Attributes:
        key: Such as ``optimizer.lr``, or a group such as ``loss``.
        choices: Values as written in an override; empty for a range.
        low: Least value of a range; a range of whole numbers if ``low`` and ``high`` are whole numbers.
        high: Largest value.
        log: Whether the logarithm is even over the range.
        step: Distance of neighbouring values; None for any value.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    @classmethod
    def parse(cls, name: str, stated: object) -> SearchDimension:
        """Read ``{key: optimizer.lr, low: 1e-4, high: 1e-2, log: true}`` or ``{key: loss, choices: [ce, dice]}``.

        Raises:
            InputError: Anything else; names the entry and what was expected.
        """
        here = f"sweep.space.{name}={json.dumps(stated)}"
        if not isinstance(stated, Mapping) or not isinstance(stated.get("key"), str):
            raise InputError(f"{here}: expected {{key: optimizer.lr, low: 1e-4, high: 1e-2, log: true}}")
        unknown = sorted(set(stated) - {"key", "choices", "low", "high", "log", "step"})
        if unknown:
            raise InputError(f"{here}: {unknown[0]} is unknown, expected key, and choices or low, high, log, step")
        settings = dict(stated)
        key = settings.pop("key")
        return cls(key, _choices(settings, here)) if "choices" in settings else cls(key, **_range(settings, here))

    def propose(self, trial: TrialLike) -> str:
        """The override of this trial, such as ``optimizer.lr=0.001``."""
        if self.choices:
            return f"{self.key}={trial.suggest_categorical(self.key, self.choices)}"
        if isinstance(self.low, int) and isinstance(self.high, int):
            whole = trial.suggest_int(self.key, self.low, self.high, step=int(self.step or 1), log=self.log)
            return f"{self.key}={whole}"
        number = trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        return f"{self.key}={number!r}"

    def examples(self) -> list[str]:
        """Overrides that show whether the configuration takes the key: every choice, or the least value."""
        return [f"{self.key}={value}" for value in self.choices or (repr(self.low),)]


def _choices(settings: Mapping[str, object], here: str) -> tuple[str, ...]:
    values = settings["choices"]
    if len(settings) != 1 or not isinstance(values, list) or len(values) < 2:
        raise InputError(f"{here}: expected a list of two choices or more, and no range")
    return tuple(written(value) for value in values)


def _range(settings: Mapping[str, object], here: str) -> dict[str, Any]:
    low, high, log, step = (settings.get(field) for field in ("low", "high", "log", "step"))
    if not _is_number(low) or not _is_number(high) or not low < high:
        raise InputError(f"{here}: expected numbers low < high")
    if log and (low <= 0 or step is not None):
        raise InputError(f"{here}: on a logarithmic scale low must be above 0, and there is no step")
    if step is not None and not (_is_number(step) and 0 < step <= high - low):
        raise InputError(f"{here}: expected a step above 0 and within the range")
    return {"low": low, "high": high, "log": bool(log), "step": step}


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def written(value: object) -> str:
    """A value as an override has it.

    Example:
        >>> written([64, 64]), written(None), written("dice_ce"), written("a, b"), written({"size": 3})
        ('[64,64]', 'null', 'dice_ce', "'a, b'", '{size:3}')
    """
    if isinstance(value, str):
        plain = re.fullmatch(r"[\w./+-]+", value)
        return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(written(entry) for entry in value) + "]"
    return json.dumps(value)
