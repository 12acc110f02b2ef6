"""debug=smoke: every stage of a training on a few cases, in less than a minute of two cores."""

import json
import time
from pathlib import Path

import pytest

from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests.test_conf import EXPERIMENTS

MINUTE = 2 * 60  # seconds of CPU that two cores have in a minute


def run(tmp_path: Path, *overrides: str) -> Path:
    began = time.process_time()
    places = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
    train(compose("train", ["debug=smoke", "logger=csv", "trainer.accelerator=cpu", *overrides, *places]))
    assert time.process_time() - began < MINUTE
    return tmp_path / "run"


def test_a_training_plans_trains_validates_tests_and_reports(tmp_path: Path) -> None:
    folder = run(tmp_path, "experiment=phantom")
    result = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert len({row["case"] for row in result["cases"]}) == 2
    assert result["policy"]["step"] in ("1", "2")
    plan = (folder / "plan.yaml").read_text(encoding="utf-8")
    assert "median spacing of 2 cases" in plan
    assert (folder / "report.html").is_file()
    cases = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"]
    assert (len(cases["train"]), len(cases["val"])) == (2, 2)
    steps = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert "val/dice" in steps[0]


def test_a_pretraining_of_scenes_runs_too(tmp_path: Path) -> None:
    folder = run(
        tmp_path, "data=phantom_scenes", "method=mae", "transform=scene", "model=unet_tiny", "plan.patch=[64,64]"
    )
    assert (folder / "checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_gets_the_budget_of_a_smoke_test(name: str) -> None:
    cfg = compose("train", [f"experiment={name}", "debug=smoke", "++data.root=x"])
    assert (cfg.trainer.max_steps, cfg.trainer.steps_per_epoch, cfg.trainer.max_time) == (2, 1, None)
    assert cfg.split.most_cases == 2
    assert cfg.plan.memory_gb == 1
