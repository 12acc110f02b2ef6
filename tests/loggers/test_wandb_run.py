"""How a run of W&B begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from medseg.loggers.wandb_run import WandbRun


@pytest.mark.parametrize("asked, expected", [({}, {}), ({"anonymous": True}, {"anonymous": "allow"})])
def test_a_setting_without_effect_is_not_passed_on(
    asked: dict[str, Any], expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B warns of ``anonymous`` even where nobody set it."""
    given: dict[str, Any] = {}

    def init(**settings: Any) -> Any:
        given.update(settings)
        return SimpleNamespace(id="abc", define_metric=lambda *_, **__: None)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "run", None)
    run = WandbRun(save_dir=str(tmp_path), project="p", **asked)
    assert run.experiment.id == "abc"
    assert given["project"] == "p"
    assert {key: value for key, value in given.items() if key == "anonymous"} == expected
