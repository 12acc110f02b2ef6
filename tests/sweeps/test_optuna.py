"""Sweeps: proposals do not depend on interruptions, and each trial is a run of its own."""

import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from medseg.cli.train import main
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.sweeps import trials
from medseg.sweeps.optuna import Sweep
from medseg.training.train import train

pytest.importorskip("optuna")

SPACE = {"lr": {"key": "optimizer.lr", "low": 1e-4, "high": 1e-1, "log": True},
         "loss": {"key": "loss", "choices": ["ce", "dice"]}}  # fmt: skip
Tell = Callable[[int, float], None]


class Trainings:
    """Trainings whose score is known: best at a rate of 0.003 with Dice; ends at ``killed_at`` as by Ctrl-C."""

    def __init__(self, *, killed_at: int | None = None, failing: Sequence[int] = ()) -> None:
        self.seen: list[list[str]] = []
        self.killed_at, self.failing = killed_at, failing

    def __call__(self, overrides: Sequence[str], tell: Tell) -> float:
        self.seen.append(list(overrides))
        given = dict(word.split("=", 1) for word in overrides)
        run_dir = Path(given["run_dir"])
        score = math.exp(-abs(math.log(float(given["optimizer.lr"]) / 0.003))) + 0.1 * (given["loss"] == "dice")
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run_dir / "checkpoints/last.ckpt").touch()
        tell(1, score / 2)
        if int(run_dir.name) == self.killed_at:
            raise KeyboardInterrupt
        if int(run_dir.name) in self.failing:
            raise InputError("no such patch")
        tell(2, score)
        return score


def sweep(folder: Path, **changed: Any) -> Sweep:
    settings: dict[str, Any] = {"trials": 6, "startup": 3, "prune": False, "space": SPACE}
    return Sweep(str(folder), **(settings | changed))


def search(made: Sweep, trainings: Trainings, *overrides: str) -> Path:
    return made.search(["seed=3", *overrides], trainings, key="val/dice", mode="max", seed=3)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def test_killed_sweep_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, killed, further = Trainings(), Trainings(killed_at=4), Trainings()
    search(sweep(tmp_path / "whole"), whole)
    with pytest.raises(KeyboardInterrupt):
        search(sweep(tmp_path / "killed"), killed)
    best = search(sweep(tmp_path / "killed"), further)
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    assert len(whole.seen) == 6
    assert [len(killed.seen), len(further.seen)] == [5, 2], "the trial that was killed, and the last one"
    assert "ckpt_path=last" in further.seen[0]
    assert further.seen[0][:-1] == killed.seen[4]
    assert "ckpt_path=last" not in further.seen[1]
    told = yaml.safe_load(best.read_text(encoding="utf-8"))
    scores = [float(row["score"]) for row in table(tmp_path / "whole")]
    assert told["score"] == max(scores)
    assert told["trial"] == scores.index(max(scores))
    assert told["command"].startswith("medseg-train seed=3 optimizer.lr=")
    assert len({row["optimizer.lr"] for row in table(tmp_path / "whole")}) == 6, "no proposal comes twice"


def test_finished_sweep_runs_nothing_and_more_trials_come_on_top(tmp_path: Path) -> None:
    search(sweep(tmp_path, trials=3), Trainings())
    again, more = Trainings(), Trainings()
    search(sweep(tmp_path, trials=3), again)
    search(sweep(tmp_path, trials=4), more)
    assert [len(again.seen), len(more.seen)] == [0, 1]


def test_trials_below_the_median_end_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(sweep(tmp_path, trials=8, startup=2, prune=True), Trainings())
    states = [row["state"] for row in table(tmp_path)]
    assert states[:2] == ["complete", "complete"]
    assert "pruned" in states
    assert f"{states.count('pruned')} ended early" in capsys.readouterr().out


def test_trial_that_cannot_be_trained_is_told_and_the_next_one_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(sweep(tmp_path, trials=3), Trainings(failing=[1]))
    assert [row["state"] for row in table(tmp_path)] == ["complete", "fail", "complete"]
    assert "Trial 1 failed: no such patch" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"no trial of .* was completed"):
        search(sweep(tmp_path / "none", trials=2), Trainings(failing=[0, 1]))


def test_study_of_another_command_is_not_gone_on_with(tmp_path: Path) -> None:
    search(sweep(tmp_path, trials=1), Trainings())
    with pytest.raises(InputError, match=r"holds a study with other overrides .* give another folder"):
        search(sweep(tmp_path, trials=2), Trainings(), "model=unetr")
    with pytest.raises(InputError, match=r"holds a study with other space"):
        search(sweep(tmp_path, trials=2, space={"lr": SPACE["lr"]}), Trainings())


def test_two_processes_do_not_share_a_study(tmp_path: Path) -> None:
    def meanwhile(overrides: Sequence[str], tell: Tell) -> float:
        with pytest.raises(InputError, match=r"another process runs this study"):
            search(sweep(tmp_path), Trainings())
        return 1.0

    sweep(tmp_path, trials=1).search([], meanwhile, key="val/dice", mode="max")


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml")))
def test_every_option_builds_and_names_keys_that_there_are(name: str) -> None:
    settings: Any = OmegaConf.to_container(compose("train", [f"sweep={name}"]).sweep, resolve=True)
    assert settings.pop("_target_") == "medseg.sweeps.optuna.Sweep"
    assert settings["folder"] == "runs/phantom_volumes/sweep"
    Sweep(**settings).check([])


def test_what_does_not_go_together_with_a_sweep_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*overrides: str) -> str:
        words = ["sweep=rate", f"sweep.folder={tmp_path}/none", *overrides]
        with pytest.raises(InputError) as caught:
            trials.sweep(compose("train", words), words)
        return str(caught.value)

    assert "run_dir: each trial has its own" in refused("run_dir=x")
    assert "one device at a time, got trainer.devices=2" in refused("trainer.devices=2")
    assert "optimizer.lr is swept, and set on the command line as well" in refused("optimizer.lr=1")
    assert "sweep.space is empty" in refused("sweep.space.lr=null")
    assert "optimizer.rate is no key" in refused("sweep.space.lr.key=optimizer.rate")
    with pytest.raises(InputError, match=r"leave it out to train once"):
        train(compose("train", ["sweep=rate"]))
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'medseg[optuna]'" in refused()
    assert not (tmp_path / "none").exists()


def test_command_leaves_a_run_for_each_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "sweep=rate", "sweep.trials=2", "data=phantom_volumes", "data.n_cases=4", "data.n_test=0",
        "data.shape=[20,22,18]", "split.n_folds=2", "trainer.steps_per_epoch=1", "plan.patch=[16,16,16]",
        "plan.batch_size=1", "model.base_features=4", "trainer.max_steps=1", "trainer.accelerator=cpu",
        "trainer.precision=32-true", "logger=csv", "callback={}", "metric=overlap", "inference.overlap=0.25",
        f"cache_dir={tmp_path}/cache",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["medseg-train", *words])
    main()
    folder = tmp_path / "runs/phantom_volumes/sweep"
    rates = []
    for number, row in enumerate(table(folder)):
        run = folder / str(number)
        assert (run / "checkpoints/best.ckpt").is_file()
        assert not (run / "metrics.json").exists(), "trials do not look at the test set"
        rates.append(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["optimizer"]["lr"])
        assert float(row["optimizer.lr"]) == rates[-1]
        assert json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert len(set(rates)) == 2
    assert {p.name for p in folder.iterdir()} == {"0", "1", "best.yaml", "trials.csv", "study.db", ".lock"}
