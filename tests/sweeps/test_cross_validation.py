"""Cross-validation: one set of scores over all folds, and a sweep that goes on where it ended."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from medseg.cli.evaluate import start
from medseg.cli.train import main
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.metrics.accumulate import CaseScores
from medseg.sweeps.compare import cross_validate
from medseg.sweeps.cross_validation import sweeps_folds
from tests.tiny import SMALL, write_nnunet

TABLE = LabelTable.declare({"background": 0, "a": 1, "b": 2})
TARGET = "medseg.metrics.accumulate.CaseScores"
VOLUME = {"_target_": TARGET, "_partial_": True, "_convert_": "all", "metrics": ["dice", "hd95", "volume_error"]}
SCENE = {"_target_": TARGET, "_partial_": True, "_convert_": "all", "metrics": ["iou", "miou"], "pooled": True}


def add(scores: CaseScores, case: str) -> None:
    """A case of its own name, some without the class b."""
    rng = np.random.default_rng(sum(map(ord, case)))
    label, pred = rng.integers(0, 2 + ord(case[-1]) % 2, (2, 5, 6))
    scores.add(case, pred, label, rng.random((5, 6)) > 0.1, spacing=(2.0, 1.5), unit="mm")


def write_run(
    folder: Path, fold: int, cases: list[str], metric: dict[str, Any], *, every: list[str], **settings: Any
) -> None:
    """The files of a run that a cross-validation reads."""
    folder.mkdir(parents=True)
    scores = CaseScores(TABLE, **{key: value for key, value in metric.items() if key[0] != "_"})
    for case in cases:
        add(scores, case)
    result = scores.result() | scores.stored() | {"labels": TABLE.to_dict(), "metric": metric, "fold": fold}
    (folder / "validation.json").write_text(json.dumps(result))
    (folder / "metrics.json").write_text(json.dumps(scores.result()))
    OmegaConf.save({"split": {"fold": fold}, "seed": 0, **settings}, folder / "config.yaml")
    parts = {"train": [c for c in every if c not in cases], "val": cases}
    (folder / "provenance.json").write_text(json.dumps({"data": parts}))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("metric", [VOLUME, SCENE], ids=["means", "pooled"])
def test_folds_together_are_what_one_run_would_have_scored(tmp_path: Path, metric: dict[str, Any]) -> None:
    every = [f"c{i}" for i in range(7)]
    write_run(tmp_path / "0", 1, every[4:], metric, every=every)
    write_run(tmp_path / "1", 0, every[:4], metric, every=every)
    cross_validate(tmp_path, metric)
    oracle = CaseScores(TABLE, **{key: value for key, value in metric.items() if key[0] != "_"})
    for case in every:
        add(oracle, case)
    expected, found = oracle.result(), read(tmp_path / "metrics.json")
    for key in ("summary", "classes", "cases", "confusion"):
        assert found[key] == expected[key], key
    assert [(fold["fold"], fold["run"], fold["cases"]) for fold in found["folds"]] == [(0, "1", 4), (1, "0", 3)]
    assert found["folds"][1]["summary"] == read(tmp_path / "0/metrics.json")["summary"]
    assert found["missing"] == []
    assert len((tmp_path / "cases.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(expected["cases"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'href="1/report.html"' in page
    assert not (tmp_path / "comparison.json").exists(), "folds are no rivals"


def test_cases_of_a_fold_without_scores_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = ["a", "b", "c", "d"]
    write_run(tmp_path / "0", 0, ["a", "b"], VOLUME, every=every)
    cross_validate(tmp_path, VOLUME)
    assert read(tmp_path / "metrics.json")["missing"] == ["c", "d"]
    assert "2 cases of other folds have no prediction" in read(tmp_path / "metrics.json")["policy"]["cases"]
    assert "2 cases have no prediction, as their fold was not scored: c, d" in (tmp_path / "report.html").read_text(
        encoding="utf-8"
    )


def test_each_arm_has_its_cross_validation_and_arms_are_compared_over_all_cases(tmp_path: Path) -> None:
    every = ["a", "b", "c", "d"]
    for job, (rate, fold) in enumerate([(0.1, 0), (0.1, 1), (0.01, 0), (0.01, 1)]):
        cases = every[2 * fold : 2 * fold + 2]
        write_run(tmp_path / str(job), fold, cases, VOLUME, every=every, optimizer={"lr": rate})
    cross_validate(tmp_path, VOLUME)
    assert not (tmp_path / "metrics.json").exists()
    for rate, jobs in (("0.1", ["../0", "../1"]), ("0.01", ["../2", "../3"])):
        found = read(tmp_path / f"optimizer.lr={rate}" / "metrics.json")
        assert [fold["run"] for fold in found["folds"]] == jobs
    (difference,) = read(tmp_path / "comparison.json")["differences"]
    equal = {"difference": 0.0, "ci95": [0.0, 0.0], "p": 1.0, "detectable": 0.0, "cases": 4}
    assert difference["of_cases"] == equal


def test_seeds_are_cross_validations_of_their_own(tmp_path: Path) -> None:
    for job, (seed, fold) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        write_run(tmp_path / str(job), fold, ["ab"[fold]], VOLUME, every=["a", "b"], seed=seed)
    cross_validate(tmp_path, VOLUME)
    assert read(tmp_path / "seed=1" / "metrics.json")["summary"]["dice"]["cases"] == 2
    assert not (tmp_path / "comparison.json").exists()


def test_a_case_of_two_folds_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 0, ["a", "b"], VOLUME, every=["a", "b", "c"])
    write_run(tmp_path / "1", 1, ["b", "c"], VOLUME, every=["a", "b", "c"])
    with pytest.raises(InputError, match="case b validates in the folds 0 and 1"):
        cross_validate(tmp_path, VOLUME)


def test_stored_classes_of_metrics_are_not_imported_unless_the_command_names_them(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 0, ["a"], VOLUME, every=["a"])
    stored = read(tmp_path / "0/validation.json")
    stored["metric"]["metrics"] = ["antigravity.Metric"]
    (tmp_path / "0/validation.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="classes of your own"):
        cross_validate(tmp_path, VOLUME)
    assert "antigravity" not in sys.modules


def test_folds_of_other_metrics_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 0, ["a"], VOLUME, every=["a", "b"])
    write_run(tmp_path / "1", 1, ["b"], SCENE, every=["a", "b"])
    with pytest.raises(InputError, match="another metric than the first fold"):
        cross_validate(tmp_path, VOLUME)


def test_a_sweep_is_over_folds_by_its_words_or_by_its_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 0, ["a"], VOLUME, every=["a", "b"])
    assert sweeps_folds(tmp_path, ["split.fold=0,1"])
    assert not sweeps_folds(tmp_path, ["split.fold=0", "seed=0,1"])
    write_run(tmp_path / "1", 1, ["b"], VOLUME, every=["a", "b"])
    assert sweeps_folds(tmp_path, [])


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A sweep over two folds of a data set with a test set, whose second fold fails at first; then repeated."""
    place = tmp_path_factory.mktemp("folds")
    root = write_nnunet(place / "data", n_cases=4)
    for folder in ("images", "labels"):
        (root / f"{folder}Ts").mkdir()
        for path in (root / f"{folder}Tr").glob("c3*"):
            shutil.move(path, root / f"{folder}Ts" / path.name)
    command = [
        "medseg-train", "-m", *SMALL, f"data.root={root}", f"cache_dir={place}/cache", f"run_dir={place}/runs",
        "split.fold=0,1", "split.n_folds=2",
    ]  # fmt: skip
    seen: dict[str, Any] = {"folder": place / "runs"}

    def run(*further: str) -> tuple[Any, list[int], Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [*command, *further])
            patch.chdir(place)
            code: Any = 0
            try:
                main()
            except SystemExit as end:
                code = end.code
        written = [(place / f"runs/{fold}/metrics.json") for fold in (0, 1)]
        times = [path.stat().st_mtime_ns if path.exists() else 0 for path in written]
        return code, times, read(place / "runs/metrics.json")

    last = place / "runs/1/checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_text("cut short")
    seen["broken"] = run()
    last.unlink()
    seen["repeated"] = run()
    seen["again"] = run()
    seen["other"] = run("optimizer.lr=0.5")
    seen["longer"] = run("trainer.max_steps=4")
    return seen


@pytest.mark.slow
def test_a_fold_that_failed_is_missing_and_the_command_ends_with_2(swept: dict[str, Any]) -> None:
    code, times, result = swept["broken"]
    assert code == 2
    assert times[0]
    assert not times[1]
    assert [fold["fold"] for fold in result["folds"]] == [0]
    assert len(result["missing"]) == 1


@pytest.mark.slow
def test_the_same_command_trains_what_is_missing_and_nothing_else(swept: dict[str, Any]) -> None:
    (_, before, _), (code, after, result) = swept["broken"], swept["repeated"]
    assert code == 0
    assert after[0] == before[0]
    assert after[1]
    assert result["missing"] == []
    assert {row["case"] for row in result["cases"]} == {"c0", "c1", "c2"}
    assert swept["again"][:2] == (0, after)


@pytest.mark.slow
def test_the_test_set_stays_the_score_of_a_run_and_the_fold_that_of_cross_validation(swept: dict[str, Any]) -> None:
    own = read(swept["folder"] / "0/metrics.json")
    assert {row["case"] for row in own["cases"]} == {"c3"}
    assert own["policy"]["cases"] == "the test set"
    fold = read(swept["folder"] / "0/validation.json")
    held = read(swept["folder"] / "0/provenance.json")["data"]["val"]
    assert {row["case"] for row in fold["cases"]} == set(held)


@pytest.mark.slow
def test_folds_that_did_not_come_to_their_end_go_on_from_their_last_checkpoint(swept: dict[str, Any]) -> None:
    code, times, _ = swept["longer"]
    assert code == 0
    assert all(after > before for after, before in zip(times, swept["again"][1], strict=True))
    with (swept["folder"] / "0/metrics.csv").open(encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == sorted(set(steps)), "no step was trained twice"
    assert read(swept["folder"] / "0/metrics.json")["policy"]["step"] in ("2", "4")


@pytest.mark.slow
def test_a_folder_of_another_command_is_not_overwritten(swept: dict[str, Any]) -> None:
    code, times, _ = swept["other"]
    assert code == 2
    assert times == swept["again"][1]


@pytest.mark.slow
def test_a_fold_is_scored_again_and_with_it_the_report_over_all_folds(swept: dict[str, Any]) -> None:
    folder = swept["folder"]
    written = ("metrics.json", "cases.csv", "report.html")
    names = ["0/validation.json", *(f"0/{name}" for name in written), *written]
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        (folder / name).unlink()
    start(compose("evaluate", [f"run={folder}/0", "device=cpu"]))
    assert {name: (folder / name).read_bytes() for name in names} == before
