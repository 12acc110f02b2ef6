"""What a command may change of the run that it resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.resume import check, differences
from tests import tiny_checkpoint


def stored(folder: Path, *overrides: str, step: int = 5) -> Path:
    config: Any = OmegaConf.to_container(compose("train", ["run_dir=a", *overrides]), resolve=True)
    held = {
        "medseg": tiny_checkpoint.metadata(config).to_dict(),
        "global_step": step,
        "state_dict": {},
    }
    torch.save(held, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_another_network_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = stored(tmp_path, "model=unet_tiny")
    message = r"trained with another network \(model.base_features \d+ -> \d+.*weights= to begin with these"
    with pytest.raises(InputError, match=message):
        check(compose("train", ["run_dir=b", "model=unet_small"]), path)


def test_presence_makes_another_network(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with pytest.raises(InputError, match=r"trained with another network \(presence False -> True\)"):
        check(compose("train", ["run_dir=b", "presence=true"]), path)
    held = torch.load(path, weights_only=True)
    del held["medseg"]["config"]["presence"]
    torch.save(held, path)
    check(compose("train", ["run_dir=b"]), path, warn=False)


def test_of_another_class_only_the_class_is_named(tmp_path: Path) -> None:
    path = stored(tmp_path, "model=unet_tiny")
    with pytest.raises(InputError, match=r"\(model._target_ medseg.models.unet.UNet -> \S+SegResNet\);"):
        check(compose("train", ["run_dir=b", "model=segresnet"]), path)


def test_settings_that_differ_are_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stored(tmp_path, "optimizer.lr=0.25", "logger=csv", "trainer.max_steps=9", "trainer.precision=32-true")
    check(compose("train", ["run_dir=b", "optimizer.lr=0.5", "seed=7", "trainer.max_steps=99"]), path)
    listed = "seed 0 -> 7, optimizer.lr 0.25 -> 0.5"
    assert capsys.readouterr().err == f"warning: settings differ from those of {path}: {listed}\n"


def test_a_spent_budget_is_one_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = stored(tmp_path, "trainer.max_steps=18", step=18)
    check(compose("train", ["run_dir=b", "trainer.max_steps=18"]), path)
    assert capsys.readouterr().err == "note: already at step 18 of 18; trainer.max_steps=N trains on to step N\n"


def test_the_same_command_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(compose("train", ["run_dir=b", "ckpt_path=last"]), stored(tmp_path))
    assert capsys.readouterr().err == ""


def test_weights_and_dropout_of_a_network_may_differ() -> None:
    before = {"model": {"encoder": {"weights": "a.pt", "drop_path_rate": 0.1}}}
    now = {"model": {"encoder": {"weights": None, "drop_path_rate": 0.2}}}
    assert dict(differences(before, now)) == {
        "model.encoder.weights": ("a.pt", None),
        "model.encoder.drop_path_rate": (0.1, 0.2),
    }
