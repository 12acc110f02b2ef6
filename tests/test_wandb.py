"""What a training leaves in an offline W&B run, read back from its file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch import Callback
from wandb.proto.wandb_internal_pb2 import Record

from medseg.command import compose
from medseg.train import train
from tests.tiny import LABELS, SMALL, write_nnunet

_HEADER, _BLOCK = 7, 32768


def records(path: Path) -> Iterator[Record]:
    """Records of a .wandb file: a LevelDB log, in which a record may span several blocks of 32 KiB."""
    content, at, parts = path.read_bytes(), _HEADER, b""
    while at + 7 <= len(content):
        if (left := _BLOCK - at % _BLOCK) < 7:
            at += left  # too short for a header: padding
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


class Fail(Callback):
    def on_train_start(self, *_: Any) -> None:
        raise RuntimeError("not today")


def content_of(run_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(config, rows of the history) of the one offline run in a run folder."""
    (path,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    config: dict[str, Any] = {}
    history = []
    for record in records(path):
        updates = [*record.run.config.update, *record.config.update]
        config |= {u.key or u.nested_key[0]: json.loads(u.value_json) for u in updates}
        row: dict[str, Any] = {}
        for entry in record.history.item:
            *outer, key = entry.nested_key or [entry.key]
            place = row
            for name in outer:
                place = place.setdefault(name, {})
            place[key] = json.loads(entry.value_json)
        history += [row] if row else []
    return config, history


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield write_nnunet(tmp_path_factory.mktemp("wandb") / "raw").parent


def train_in(folder: Path, name: str, *overrides: str) -> Path:
    own = [f"data.root={folder}/raw", f"cache_dir={folder}/cache", f"run_dir={folder}/{name}", "data.steps_per_epoch=1"]
    return train(compose("train", [*SMALL, *own, "logger=wandb", *overrides]))


@pytest.fixture(scope="module")
def run_dirs(folder: Path) -> list[Path]:
    """Two trainings of one process, as in a sweep."""
    show = "callbacks={previews:{_target_:medseg.callbacks.previews.Previews}}"
    runs = []
    for name in ("one", "two"):
        runs.append(train_in(folder, f"first/{name}", f"name={name}", show))
        assert wandb.run is None, "the next training would continue this run"
    wandb.teardown()  # waits until the last records are in the files
    return runs


def test_scores_of_every_class_are_logged_over_steps(run_dirs: list[Path]) -> None:
    _, history = content_of(run_dirs[0])
    for key in ("train/loss", "train/lr", "val/dice", "val/dice/anterior", "val/dice/posterior"):
        rows = [row for row in history if key in row]
        assert [row["trainer/global_step"] for row in rows] == sorted({row["trainer/global_step"] for row in rows})
        assert len(rows) == 2, key
    (test,) = [row for row in history if "test/dice" in row]
    scores = json.loads((run_dirs[0] / "metrics.json").read_text())
    assert test["test/dice"] == pytest.approx(scores["summary"]["dice"]["mean"])


def test_config_is_resolved_and_counts_parameters(run_dirs: list[Path]) -> None:
    config, _ = content_of(run_dirs[0])
    assert config["model"]["base_features"] == 4
    assert config["name"] == "one"
    assert config["logger"]["name"] == "one"  # ${name} in the yaml
    assert config["trainer"]["precision"] == "32-true"
    assert config["parameters"] > 1000
    assert "${" not in json.dumps(config)


def test_previews_have_masks_with_class_names(run_dirs: list[Path]) -> None:
    config, history = content_of(run_dirs[0])
    shown = [row["val/previews/c0"] for row in history if "val/previews/c0" in row]
    assert len(shown) == 2
    for panel in shown:
        assert panel["_type"] == "image-file"
        assert panel["caption"] == "c0"
        assert set(panel["masks"]) == {"label", "prediction"}
        (files,) = run_dirs[0].glob("wandb/offline-run-*/files")
        for entry in (*panel["masks"].values(), panel):
            assert (files / entry["path"]).is_file()
    names = {str(index): name for name, index in LABELS.items()}
    classes = {key: value["value"] for key, value in config["_wandb"]["mask/class_labels"].items()}
    by_mask = {key.rpartition("_wandb_delimeter_")[2]: value for key, value in classes.items()}
    assert by_mask == {"label": {**names, "3": "ignored"}, "prediction": names}


def test_each_training_of_a_process_is_a_run_of_its_own(run_dirs: list[Path]) -> None:
    ids = {path.stem for run_dir in run_dirs for path in run_dir.glob("wandb/offline-run-*/run-*.wandb")}
    assert len(ids) == 2
    config, history = content_of(run_dirs[1])
    assert config["name"] == "two"
    assert sum("test/dice" in row for row in history) == 1


def test_resumed_training_logs_into_the_folder_it_resumes(folder: Path) -> None:
    begun = train_in(folder, "second/begun", "logger=csv", "trainer.max_steps=1", "test=false")
    assert train_in(folder, "second/other", "ckpt_path=last", "test=false") == begun
    assert len(list(begun.glob("wandb/offline-run-*"))) == 1
    assert not (folder / "second/other").exists()


def test_failed_training_ends_its_run_too(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="not today"):
        train_in(folder, "third", "+callbacks.fail._target_=tests.test_wandb.Fail")
    assert wandb.run is None
    wandb.teardown()  # waits until the record of the end is in the file
    (path,) = (folder / "third").glob("wandb/offline-run-*/run-*.wandb")
    assert [record.exit.exit_code for record in records(path) if record.HasField("exit")] == [1]
