"""Which job of a repeated sweep is finished, goes on, or is another one."""

import os
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.training import sweep_job
from medseg.training.run_directory import LAST, VALIDATION
from medseg.training.sweep_job import is_finished

CFG = OmegaConf.create(
    {"split": {"fold": 1}, "trainer": {"max_steps": 2, "max_epochs": None, "max_time": None}, "test": True}
    | {"judged": "best", "run_dir": "elsewhere", "optimizer": {"lr": 0.1}, "data": {"root": "x"}, "model": {}}
)


def job(folder: Path, *, order: tuple[str, ...] = ("config.yaml", str(LAST), VALIDATION, "metrics.json")) -> Path:
    """A folder whose files were written in this order."""
    (folder / LAST.parent).mkdir(parents=True)
    for time, name in enumerate(order):
        (folder / name).write_text(OmegaConf.to_yaml(CFG) if name == "config.yaml" else "{}")
        os.utime(folder / name, (1000 + time, 1000 + time))
    return folder


def other(**settings: object) -> DictConfig:
    cfg = CFG.copy()
    for key, value in settings.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    return cfg


def test_a_job_that_was_scored_is_finished(tmp_path: Path) -> None:
    assert is_finished(other(run_dir="moved"), job(tmp_path), asked=False)


@pytest.mark.parametrize(
    "order",
    [
        ("config.yaml", "metrics.json", VALIDATION),
        ("config.yaml", str(LAST), VALIDATION),
        ("config.yaml", VALIDATION, "metrics.json", str(LAST)),
        (str(LAST), VALIDATION, "metrics.json", "config.yaml"),
    ],
    ids=["no checkpoint", "not scored", "trained on after its scores", "began again after its scores"],
)
def test_a_job_without_scores_of_its_last_checkpoint_is_not_finished(tmp_path: Path, order: tuple[str, ...]) -> None:
    assert not is_finished(CFG, job(tmp_path, order=order), asked=False)


def test_scores_of_the_fold_are_needed_where_folds_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job(tmp_path, order=("config.yaml", str(LAST), "metrics.json"))
    assert is_finished(CFG, folder, asked=False)
    monkeypatch.setattr(sweep_job, "sweeps_folds", lambda: True)
    assert not is_finished(CFG, folder, asked=False)


def test_another_budget_or_end_is_not_finished(tmp_path: Path) -> None:
    folder = job(tmp_path)
    assert not is_finished(other(trainer__max_steps=4), folder, asked=False)
    assert not is_finished(other(judged="last"), folder, asked=False)


def test_other_settings_are_one_line_unless_the_command_resumes(tmp_path: Path) -> None:
    folder, cfg = job(tmp_path), other(optimizer__lr=0.5, split__fold=2)
    with pytest.raises(InputError, match=r"other settings \(split.fold 1 -> 2 and 1 more\); repeat its command"):
        is_finished(cfg, folder, asked=False)
    assert not is_finished(cfg, folder, asked=True)


def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    folder = job(tmp_path)
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"config.yaml: is no valid YAML \(ParserError\); remove this folder"):
        is_finished(CFG, folder, asked=False)
