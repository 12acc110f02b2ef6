"""Which cases the temperature is fitted on, and that it can be switched off."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.hydra_app.compose import compose
from medseg.training import artifacts, calibration, results, tracking, train

GRIDS = {"small": (8, 8), "huge": (100, 100), "medium": (9, 9)}


class Cases:
    """A dataset of grids alone."""

    spec = SimpleNamespace(channels=(1, 2))

    def open(self, case: Any) -> Any:
        return SimpleNamespace(grid=SimpleNamespace(shape=GRIDS[case.id.split("_")[0]]))


def cases(*names: str) -> list[Any]:
    return [SimpleNamespace(id=name, annotated=None if "part" not in name else frozenset({"a"})) for name in names]


def chosen(*names: str, seed: int = 0) -> list[str]:
    return [case.id for case in calibration._chosen(cases(*names), Cases(), np.random.default_rng(seed))]  # type: ignore[arg-type]


def test_very_large_cases_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LARGEST_CASE", 2 * 9 * 9)
    assert chosen("small", "huge", "medium") == ["small", "medium"]


def test_cases_that_do_not_annotate_every_class_are_left_out() -> None:
    assert chosen("small_part", "small", "medium_part", "medium") == ["small", "medium"]


def test_of_many_cases_some_are_drawn_in_their_order() -> None:
    names = [f"small_{n:03d}" for n in range(100)]
    picked = chosen(*names)
    assert len(picked) == calibration.MOST_CASES
    assert picked == sorted(picked)
    assert picked == chosen(*names)
    assert picked != chosen(*names, seed=1)
    assert chosen() == []


@pytest.mark.parametrize(("words", "calls"), [((), 1), (("temperature_scaling=false",), 0), (("test=false",), 0)])
def test_it_can_be_switched_off(words: tuple[str, ...], calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(calibration, "calibrate", lambda *given: done.append("calibrate"))
    monkeypatch.setattr(results, "score_checkpoint", lambda *given: done.append("score"))
    for module, name in ((artifacts, "save_adapters"), (tracking, "end"), (results, "print_results")):
        monkeypatch.setattr(module, name, lambda *given, **more: None)
    run: Any = SimpleNamespace(method=SimpleNamespace(metadata=SimpleNamespace(segments=True)))
    train._finish(compose("train", list(words)), run, Path("run"), 0.0)
    assert done.count("calibrate") == calls
    assert done[:1] != ["score"] or not calls, "the digest of the checkpoint is final before anything is scored"
