"""Space: what a sweep may choose from, key by key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from medseg.errors import InputError


@runtime_checkable
class Proposing(Protocol):
    """What proposes values; an Optuna trial does."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of them."""
        ...


@dataclass(frozen=True)
class Dimension:
    """The values that one key of the configuration may take.

    Attributes:
        key: Such as ``optimizer.lr``, or a group such as ``loss``.
        choices: As they stand in an override; empty for a range.
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
    def parse(cls, name: str, stated: Any) -> Dimension:
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
        if "choices" in stated:
            found = stated["choices"]
            if len(stated) != 2 or not isinstance(found, list) or len(found) < 2:
                raise InputError(f"{here}: expected a list of two choices or more, and no range beside it")
            return cls(stated["key"], tuple(written(value) for value in found))
        bounds: list[Any] = [stated.get(field) for field in ("low", "high", "log", "step")]
        low, high, log, step = bounds
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (low, high)) or not low < high:
            raise InputError(f"{here}: expected numbers low < high")
        if log and (low <= 0 or step is not None):
            raise InputError(f"{here}: on a logarithmic scale low must be above 0, and there is no step")
        if step is not None and not (isinstance(step, (int, float)) and 0 < step <= high - low):
            raise InputError(f"{here}: expected a step above 0 and within the range")
        return cls(stated["key"], (), low, high, bool(log), step)

    def propose(self, trial: Proposing) -> str:
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


def written(value: Any) -> str:
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
