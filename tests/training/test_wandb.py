"""What a training leaves in an offline W&B run, read back from its file."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
import yaml
from lightning.pytorch import Callback
from PIL import Image

from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests.tiny import LABELS, SMALL, write_nnunet
from tests.wandb_file import Offline, only_part, parts

CLASSES = ("anterior", "posterior")


class Fail(Callback):
    def on_train_start(self, *_: Any) -> None:
        raise RuntimeError("not today")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("wandb")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_DATA_DIR", str(root / "staging"))
        yield write_nnunet(root / "raw").parent


def cells(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def train_in(folder: Path, name: str, *overrides: str) -> Path:
    own = [
        f"data.root={folder}/raw",
        f"cache_dir={folder}/cache",
        f"run_dir={folder}/{name}",
        "trainer.steps_per_epoch=1",
    ]
    return train(compose("train", [*SMALL, *own, "logger=wandb", *overrides]))


@pytest.fixture(scope="module")
def run_dirs(folder: Path) -> list[Path]:
    """Two trainings of one process, as in a sweep; of the second no checkpoint is kept for W&B."""
    show = "callback={previews:{_target_:medseg.callbacks.previews.Previews}}"
    runs = []
    for name, own in (("one", ["logger.wandb.tags=[paper]"]), ("two", ["logger.wandb.artifacts=[data,report]"])):
        runs.append(train_in(folder, f"first/{name}", f"name={name}", show, *own))
        assert wandb.run is None, "the next training would continue this run"
    wandb.teardown()  # waits until the last records are in the files
    return runs


@pytest.fixture(scope="module")
def run(run_dirs: list[Path]) -> Offline:
    return only_part(run_dirs[0])


@pytest.fixture(scope="module")
def scores(run_dirs: list[Path]) -> dict[str, Any]:
    return json.loads((run_dirs[0] / "metrics.json").read_text(encoding="utf-8"))


def test_run_is_named_and_grouped(run: Offline) -> None:
    told = {key: run.about[key] for key in ("name", "group", "job_type", "project")}
    assert told == {"name": "one seed=0", "group": "one", "job_type": "train", "project": "medseg"}
    assert set(run.about["tags"]) == {"paper", "one", "nnunet", "unet"}


def test_scores_of_every_class_are_logged_over_steps(run: Offline) -> None:
    for key in ("train/loss", "train/lr", "val/dice", "val/dice/anterior", "val/dice/posterior"):
        rows = [row for row in run.history if key in row]
        assert [row["trainer/global_step"] for row in rows] == sorted({row["trainer/global_step"] for row in rows})
        assert len(rows) == 2, key


def test_final_scores_are_those_of_metrics_json(run: Offline, scores: dict[str, Any]) -> None:
    (row,) = [row for row in run.history if "val_final/dice" in row]
    told = {key: value for key, value in row.items() if key.startswith("val_final/")}
    of_all = {f"val_final/{metric}": entry["mean"] for metric, entry in scores["summary"].items()}
    places = [(m, name) for m in scores["summary"] for name in CLASSES]
    of_classes = {f"val_final/{m}/{name}": scores["classes"][name][m]["mean"] for m, name in places}
    assert told == pytest.approx(of_all | of_classes)


def test_summary_keeps_the_best_validation_beside_the_last(run: Offline) -> None:
    for key in ("val/dice", "val/dice/*"):
        summary, step = run.metrics[key].summary, run.metrics[key].step_metric
        assert (summary.max, summary.last, summary.min, step) == (True, True, False, "trainer/global_step")
    assert run.metrics["*"].step_metric == "trainer/global_step"
    best = max(row["val/dice"] for row in run.history if "val/dice" in row)
    assert run.summary["val/dice"] == {"max": best, "last": run.last("val/dice")}
    assert run.summary["val_final/dice"] == run.last("val_final/dice")


def test_config_is_resolved_and_tells_what_was_found(run: Offline, run_dirs: list[Path]) -> None:
    written = yaml.safe_load((run_dirs[0] / "config.yaml").read_text(encoding="utf-8"))
    assert {key: run.config[key] for key in written} == written
    assert run.config["model"]["base_features"] == 4
    assert run.config["logger"]["wandb"]["name"] == "one seed=0"
    assert run.config["trainer"]["precision"] == "32-true"
    assert run.config["parameters"] > 1000
    assert run.config["planned"]["patch"] == [16, 16, 16]
    assert (run.config["train_cases"], run.config["val_cases"]) == (4, 1)
    assert "${" not in json.dumps({key: value for key, value in run.config.items() if key != "_wandb"})


def test_tables_have_the_rows_of_the_files(run: Offline, run_dirs: list[Path], scores: dict[str, Any]) -> None:
    columns, rows = run.table("val_final/cases")
    with (run_dirs[0] / "cases.csv").open() as stream:
        header, *written = csv.reader(stream)
    assert columns == header
    assert [["" if value is None else str(value) for value in row] for row in rows] == written
    columns, rows = run.table("val_final/classes")
    assert columns == ["class", "metric", "mean", "low", "high", "cases"]
    told = {(name, metric): (mean, cases) for name, metric, mean, _, _, cases in rows}
    entries = {(name, m): entry for name, by in scores["classes"].items() for m, entry in by.items()}
    assert told == {key: (entry["mean"], entry["cases"]) for key, entry in entries.items()}


def test_confusion_is_a_chart_of_the_counted_cells(run: Offline, scores: dict[str, Any]) -> None:
    columns, rows = run.table("val_final/confusion_table")
    assert columns == ["Actual", "Predicted", "nPredictions"]
    matrix = np.array([cells for *_, cells in rows]).reshape(3, 3)
    assert matrix.tolist() == scores["confusion"]["matrix"]
    assert [(label, pred) for label, pred, _ in rows[:4]] == [
        *(("background", pred) for pred in LABELS), ("anterior", "background"),
    ]  # fmt: skip
    assert "wandb/confusion_matrix/v1" in json.dumps(run.config["_wandb"]["visualize"])


@pytest.mark.parametrize("key,times", [("val/previews/c0", 2), ("val_final/pictures/c0", 1)])
def test_volumes_are_panels_of_planes_with_masks_and_class_names(run: Offline, key: str, times: int) -> None:
    shown = [row[key] for row in run.history if key in row]
    assert len(shown) == times
    for panel in shown:
        assert (panel["_type"], panel["count"]) == ("images/separated", 3)
        assert [caption.split()[1] for caption in panel["captions"]] == ["axial", "coronal", "sagittal"]
        sizes = {cells(run.files / path).shape for path in panel["filenames"]}
        assert sizes == {(panel["height"], panel["width"], 3)}
        for masks in panel["all_masks"]:
            assert set(masks) == {"label", "prediction"}
            found = {name: set(np.unique(cells(run.files / mask["path"]))) for name, mask in masks.items()}
            assert {0, 2} <= found["label"] <= {0, 1, 2}, "cut where there is a label"
            assert found["prediction"] <= {0, 1, 2}
    names = {str(index): name for name, index in LABELS.items()} | {"3": "ignored"}
    classes = {k: value["value"] for k, value in run.config["_wandb"]["mask/class_labels"].items() if k.startswith(key)}
    assert {k.rpartition("_wandb_delimeter_")[2] for k in classes} == {"label", "prediction"}
    assert all(value == names for value in classes.values())


def test_data_is_the_input_of_the_run(run: Offline, run_dirs: list[Path]) -> None:
    (used,) = run.artifacts["data-nnunet"]
    assert used.type == "dataset"
    assert used.use_after_commit, "wandb sync would take the data for a result of the run"
    (entry,) = used.manifest.contents
    listed = json.loads(Path(entry.local_path).read_text(encoding="utf-8"))
    folds = json.loads((run_dirs[0] / "provenance.json").read_text(encoding="utf-8"))["data"]
    assert {part: list(listed[part]) for part in ("train", "val")} == {part: folds[part] for part in ("train", "val")}
    assert folds["digest"] == listed["digest"]
    assert folds["files"] == listed["train"] | listed["val"]
    assert len({*listed["train"].values(), *listed["val"].values()}) == 5
    assert json.loads(used.metadata)["digest"] == listed["digest"]
    assert str(run_dirs[0].parent) not in Path(entry.local_path).read_text(encoding="utf-8"), (
        "another place would be another version"
    )
    (again,) = only_part(run_dirs[1]).artifacts["data-nnunet"]
    assert again.digest == used.digest


def test_checkpoints_are_versions_of_a_model_with_plan_config_and_scores(run: Offline, run_dirs: list[Path]) -> None:
    last, best = run.artifacts[f"model-{run.about['id']}"]
    for version, kind in ((last, "last"), (best, "best")):
        assert version.type == "model"
        assert set(version.aliases) == {kind, "latest"}
        paths = {entry.path: Path(entry.local_path) for entry in version.manifest.contents}
        assert set(paths) == {f"{kind}.ckpt", "plan.yaml", "config.yaml"}
        originals = [
            run_dirs[0] / "checkpoints" / f"{kind}.ckpt",
            run_dirs[0] / "plan.yaml",
            run_dirs[0] / "config.yaml",
        ]
        assert all(paths[path.name].read_bytes() == path.read_bytes() for path in originals)
        assert paths[f"{kind}.ckpt"].samefile(originals[0]), "a checkpoint is not copied"
    metadata = json.loads(best.metadata)
    assert metadata["checkpoint"] == "best"
    assert metadata["val_final/dice"] == run.last("val_final/dice")


def test_report_is_kept_with_its_scores(run: Offline, run_dirs: list[Path]) -> None:
    (report,) = run.artifacts[f"report-{run.about['id']}"]
    assert report.type == "report"
    paths = {entry.path: Path(entry.local_path) for entry in report.manifest.contents}
    assert set(paths) == {"report.html", "metrics.json", "cases.csv"}
    assert all(path.read_bytes() == (run_dirs[0] / name).read_bytes() for name, path in paths.items())


def test_checkpoints_can_be_left_out(run_dirs: list[Path]) -> None:
    types = {version.type for versions in only_part(run_dirs[1]).artifacts.values() for version in versions}
    assert types == {"dataset", "report", "run_table"}


def test_each_training_of_a_process_is_a_run_of_its_own(run: Offline, run_dirs: list[Path]) -> None:
    other = only_part(run_dirs[1])
    assert other.about["id"] != run.about["id"]
    assert other.config["name"] == "two"
    assert sum("val_final/dice" in row for row in other.history) == 1


def test_resumed_training_goes_on_in_the_same_run(folder: Path) -> None:
    begun = train_in(folder, "second/begun", "trainer.max_steps=1", "test=false")
    assert train_in(folder, "second/begun", "ckpt_path=last", "test=false") == begun
    wandb.teardown()
    first, then = parts(begun)
    assert first.about["id"] == then.about["id"] == (begun / "wandb/id.txt").read_text(encoding="utf-8").strip()
    assert first.files != then.files
    steps = [[row["trainer/global_step"] for row in part.history if "train/loss" in row] for part in (first, then)]
    assert steps[0] == [0]
    assert steps[1] > steps[0]
    last, _ = first.artifacts[f"model-{first.about['id']}"]
    kept = next(Path(entry.local_path) for entry in last.manifest.contents if entry.path == "last.ckpt")
    assert kept.read_bytes() != (begun / "checkpoints/last.ckpt").read_bytes(), "sync would send another file"


def test_failed_training_ends_its_run_too(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="not today"):
        train_in(folder, "third", "+callback.fail._target_=tests.training.test_wandb.Fail")
    assert wandb.run is None
    wandb.teardown()  # waits until the record of the end is in the file
    assert only_part(folder / "third").exits == [1]
