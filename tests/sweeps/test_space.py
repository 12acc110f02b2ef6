from typing import Any

import pytest

from medseg.errors import InputError
from medseg.sweeps.space import SearchDimension


class Lowest:
    """Proposes the least value, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        self.asked.append(("float", name, low, high, step, log))
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.asked.append(("int", name, low, high, step, log))
        return low

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.asked.append(("categorical", name, choices))
        return choices[0]


@pytest.mark.parametrize(
    ("stated", "override", "asked"),
    [
        (
            {"key": "optimizer.lr", "low": 1e-4, "high": 1e-2, "log": True},
            "optimizer.lr=0.0001",
            ("float", "optimizer.lr", 1e-4, 1e-2, None, True),
        ),
        ({"key": "model.depth", "low": 2, "high": 6}, "model.depth=2", ("int", "model.depth", 2, 6, 1, False)),
        ({"key": "a", "low": 0, "high": 0.5, "step": 0.1}, "a=0", ("float", "a", 0, 0.5, 0.1, False)),
        (
            {"key": "plan.patch", "choices": [[64, 64], [96, 96]]},
            "plan.patch=[64,64]",
            ("categorical", "plan.patch", ("[64,64]", "[96,96]")),
        ),
        ({"key": "loss", "choices": [None, "ce"]}, "loss=null", ("categorical", "loss", ("null", "ce"))),
    ],
)
def test_dimension_proposes_an_override(stated: dict[str, Any], override: str, asked: tuple[Any, ...]) -> None:
    trial = Lowest()
    assert SearchDimension.parse("it", stated).propose(trial) == override
    assert trial.asked == [asked]


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("lr", "expected {key: optimizer.lr"),
        ({"low": 1, "high": 2}, "expected {key: optimizer.lr"),
        ({"key": "a", "lowest": 1}, "lowest is unknown"),
        ({"key": "a", "choices": [1]}, "two choices or more"),
        ({"key": "a", "choices": [1, 2], "low": 1}, "and no range"),
        ({"key": "a", "low": 2, "high": 1}, "numbers low < high"),
        ({"key": "a", "low": True, "high": 2}, "numbers low < high"),
        ({"key": "a", "low": 0, "high": 1, "log": True}, "low must be above 0"),
        ({"key": "a", "low": 0, "high": 1, "step": 2}, "a step above 0 and within"),
    ],
)
def test_what_is_no_dimension_is_told(stated: Any, told: str) -> None:
    with pytest.raises(InputError, match=f"^sweep.space.it=.*: .*{told}"):
        SearchDimension.parse("it", stated)
