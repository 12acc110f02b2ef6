"""The final scores of a training, made again from its folder."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from medseg import checkpoint
from medseg.cli.evaluate import start
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.sweep_job import was_fold
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet

FILES = ("metrics.json", "cases.csv", "report.html")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    root = write_nnunet(folder / "data", n_cases=4)
    words = [*SMALL, f"data.root={root}", f"cache_dir={folder}/cache", f"run_dir={folder}/run", "split.n_folds=2"]
    train(compose("train", words))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run folder in a place of its own; its data stay where they were."""
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def again(run: Path, *words: str) -> dict[str, Any]:
    return start(compose("evaluate", [f"run={run}", "device=cpu", *words]))


def test_the_files_are_those_of_the_training_byte_for_byte(run: Path) -> None:
    before = {name: (run / name).read_bytes() for name in FILES}
    for name in FILES:
        (run / name).unlink()
    result = again(run)
    assert {name: (run / name).read_bytes() for name in FILES} == before
    assert result == json.loads(before["metrics.json"])
    assert not (run / ".lock").exists()
    assert not (run / "validation.json").exists()


def test_they_can_be_written_elsewhere_and_from_data_that_moved(run: Path, trained: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(trained / "data", tmp_path / "moved"))
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["root"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"gone.*(no such|set data\.root)"):
        again(run, f"output={out}")
    assert not out.exists()
    again(run, f"output={out}", f"data.root={moved}")
    assert all((out / name).read_bytes() == (run / name).read_bytes() for name in FILES)


def test_scores_are_replaced_only_if_the_command_says_so(run: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json, cases\.csv, report\.html exist already; overwrite=true"):
        again(run)
    (run / "report.html").write_text("old")
    again(run, "overwrite=true", "checkpoint=last")
    assert "Checkpoint last, step 2" in (run / "report.html").read_text(encoding="utf-8")
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["policy"]["checkpoint"] == "last"


def test_bad_input_is_one_line_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(match: str, *words: str, folder: Path = run) -> None:
        with pytest.raises(InputError, match=match):
            again(folder, f"output={out}", *words)
        assert not out.exists()

    refused("has no config.yaml; expected the folder of a run", folder=tmp_path)
    refused("checkpoint=first: choose best or last", "checkpoint=first")
    refused(r"ignore=3: is for label files, and run=.* is scored as its training would", "ignore=3")
    refused("predictions=x: is for label files", "predictions=x")
    (run / "checkpoints/best.ckpt").unlink()
    refused("has no checkpoints/best.ckpt; checkpoint=last scores the one that it has")
    (run / "checkpoints/last.ckpt").unlink()
    refused("has no checkpoints/best.ckpt; train it first")


def test_other_data_than_those_of_the_training_are_refused(run: Path, tmp_path: Path) -> None:
    more = write_nnunet(tmp_path / "more", n_cases=6)
    with pytest.raises(InputError, match="the data are split otherwise than in the training"):
        again(run, "overwrite=true", f"data.root={more}")
    other = write_nnunet(tmp_path / "other", n_cases=4, channels=("T1", "T2"))
    with pytest.raises(InputError, match="the data have other channels or classes"):
        again(run, "overwrite=true", f"data.root={other}")


def test_classes_of_strangers_are_not_imported(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["_target_"] = "strange_module.Data"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"config\.data\._target_=strange_module\.Data.*add trust=\[strange_module\]"):
        again(run, "overwrite=true")


def test_a_run_that_segments_nothing_is_refused(run: Path) -> None:
    file = run / "checkpoints/best.ckpt"
    held = torch.load(file, weights_only=True)
    held["medseg"]["segments"] = False
    checkpoint.save(held, file)
    with pytest.raises(InputError, match="pretrained without labels and segments nothing"):
        again(run, "overwrite=true")


def test_label_files_need_their_folders() -> None:
    with pytest.raises(InputError, match="labels and output are needed and were not given; add labels=DIR and output"):
        start(compose("evaluate", ["predictions=x"]))


@pytest.mark.parametrize(
    ("words", "expected"), [(["split.fold=0,1"], True), (["seed=0,1"], False), (None, False), ("x", False)]
)
def test_a_fold_is_known_by_what_its_sweep_left(words: object, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": words}}}))
    (tmp_path / "0").mkdir()
    assert was_fold(tmp_path / "0") is expected
    (tmp_path / "0/validation.json").touch()
    assert was_fold(tmp_path / "0")


def test_a_run_without_mean_iou_makes_no_row_of_a_benchmark(run: Path, tmp_path: Path) -> None:
    (run / "report.html").write_text("as it was")
    with pytest.raises(InputError, match="no mean IoU, which the table has; train with metric=scene"):
        again(run, "overwrite=true", f"benchmark={tmp_path}/results.csv")
    assert not (tmp_path / "results.csv").exists()
    assert (run / "report.html").read_text() == "as it was", "nothing was scored"


def test_a_run_adds_its_row_to_a_benchmark(trained: Path, run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["metric"] = OmegaConf.to_container(compose("train", [*SMALL, "metric=scene"]).metric)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for _ in range(2):
        again(run, "overwrite=true", f"benchmark={tmp_path}/results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first == second
    assert float(first["metric_value"]) >= 0
    assert first["n_val"] == "2"
