"""medseg-select from run folders to selection.yaml, with untrained networks, and with predictions made for the test."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import medseg
from medseg.cli.select import main
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.inference.postprocess import PostProcess
from medseg.labels import LabelTable
from medseg.prediction import restore
from medseg.sample import Sample
from medseg.selection.members import read_members
from medseg.selection.predictions import Scorer, decided
from medseg.selection.select import select
from medseg.selection.steps import steps_to_try
from medseg.selection.unseen import Unseen
from tests.selection.runs import CASES, write_data, write_folds
from tests.tiny_checkpoint import SPEC

TABLE = SPEC.labels


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("select")
    write_data(place / "data")
    for seed, name in enumerate("AB"):
        write_folds(place / name, place / "data", seed=seed)
    return place


def chosen(place: Path, output: Path, *words: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The selection and the rows of the candidates."""
    runs = f"runs=[{place}/A,{place}/B]"
    target = select(medseg.compose("select", runs, f"output={output}", "device=cpu", *words))
    with (output / "candidates.csv").open(encoding="utf-8") as file:
        return yaml.safe_load(target.read_text(encoding="utf-8")), list(csv.DictReader(file))


Predict = Callable[[int, Sample, bool | None], np.ndarray]


def predicting(monkeypatch: pytest.MonkeyPatch, predict: Predict) -> None:
    """Networks that give the index map of a function with certainty 0.8."""

    def probability(self: Unseen, place: int, sample: Sample, flips: bool | None) -> np.ndarray:
        index = predict(place, sample, flips)
        return np.stack([np.where(index == k, 0.8, 0.1) for k in range(3)]).astype(np.float32)

    monkeypatch.setattr(Unseen, "probability", probability)


def noisy(sample: Sample, seed: int, share: float) -> np.ndarray:
    """The label with some cells of another class."""
    rng = np.random.default_rng([seed, int(sample.case[-1])])
    assert sample.label is not None
    return np.where(rng.random(sample.label.shape) < share, rng.integers(0, 3, sample.label.shape), sample.label)


def test_untrained_networks_give_a_selection_that_names_every_network(place: Path, tmp_path: Path) -> None:
    stored, rows = chosen(place, tmp_path / "out", "steps=[remove_small]", "sizes=[2]", "unit=px")
    assert list(stored) == ["format", "members", "flips", "postprocessing", "evidence"]
    assert stored["format"] == 1
    names = [decision["decision"] for decision in stored["evidence"]["decisions"]]
    assert names[:4] == ["single configuration", "ensemble", "mirrors", "post-processing 1"]
    for member in stored["members"]:
        path = (tmp_path / "out" / member["checkpoint"]).resolve()
        assert path.is_file()
        assert medseg.checkpoint.read(path).digest == member["digest"]
    assert len(stored["members"]) in (3, 6)
    predictor = medseg.load(tmp_path / "out/selection.yaml", device="cpu")
    assert len(predictor.arrays.members) == len(stored["members"])
    singles = [row for row in rows if row["decision"] == "single configuration"]
    assert {(row["candidate"], row["case"]) for row in singles} == {(name, case) for name in "AB" for case in CASES}
    assert list(rows[0]) == ["decision", "candidate", "case", "dice", "dice/a", "dice/b"]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name not in ("selection.yaml", "candidates.csv")]


def test_each_case_is_predicted_by_the_network_that_did_not_see_it(place: Path) -> None:
    members = read_members([place / "A", place / "B"])
    unseen = Unseen(members, root=None, device="cpu")
    order = unseen.in_order_of_networks()
    assert order == CASES
    for case in order:
        sample = unseen.read(case)
        for i, name in enumerate("AB"):
            path = place / name / str(CASES.index(case) // 2) / "checkpoints/best.ckpt"
            oracle = restore.predictor(path, device="cpu", flips=True).arrays.index_and_prob(sample)[1]
            np.testing.assert_array_equal(unseen.probability(i, sample, True), oracle)


def test_members_with_errors_of_their_own_are_better_together(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A is wrong in the upper half and B in the lower one, both without certainty where they are wrong."""

    def probability(self: Unseen, member: int, sample: Sample, flips: bool | None) -> np.ndarray:
        label = np.asarray(sample.label)
        wrong = np.zeros(label.shape, dtype=bool)
        half = label.shape[0] // 2
        wrong[(half if member else 0) : (None if member else half)] = (
            noisy(sample, 7 + member, 0.9)[:half] != label[:half]
        )
        sure = np.stack([np.where(label == k, 0.9, 0.05) for k in range(3)])
        unsure = np.stack([np.where((label + 1) % 3 == k, 0.4, 0.3) for k in range(3)])
        return np.where(wrong, unsure, sure).astype(np.float32)

    monkeypatch.setattr(Unseen, "probability", probability)
    stored, rows = chosen(place, tmp_path, "steps=[]", "mirrors=false")
    ensemble = stored["evidence"]["decisions"][1]
    assert (ensemble["choice"], len(stored["members"])) == ("A + B", 6)
    assert {row["dice"] for row in rows if row["candidate"] == "A + B"} == {"1.0"}
    assert ensemble["others"]["A + B"]["better"] == 6
    assert stored["flips"] is None


def test_without_any_gain_the_null_choices_win(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, lambda member, sample, flips: noisy(sample, 0, 0.0))
    stored, _ = chosen(place, tmp_path)
    assert [decision["choice"] for decision in stored["evidence"]["decisions"]] == ["A", "A", "as in training", "none"]
    assert (len(stored["members"]), stored["flips"], stored["postprocessing"]) == (3, None, [])


def test_mirrors_that_help_are_chosen(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, lambda member, sample, flips: noisy(sample, member, 0.05 if flips else 0.5))
    stored, rows = chosen(place, tmp_path, "steps=[]", "ensembles=false")
    assert stored["flips"] is True
    assert {row["candidate"] for row in rows if row["decision"] == "mirrors"} == {"with mirrors"}


def test_post_processing_that_helps_is_chosen_step_by_step(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Specks of a within the background, and a hole in b: two steps, each on its class, repair them."""

    def flawed(member: int, sample: Sample, flips: bool | None) -> np.ndarray:
        index = np.array(sample.label)
        index[1, 1] = index[int(sample.case[-1]) % 3 + 3, 2] = 1
        index[3, 9] = 0
        return index

    predicting(monkeypatch, flawed)
    words = ["mirrors=false", "steps=[remove_small,fill_holes]", "sizes=[2]", "unit=px"]
    stored, _ = chosen(place, tmp_path, *words)
    assert sorted(step["step"] for step in stored["postprocessing"]) == ["fill_holes", "remove_small"]
    assert stored["evidence"]["decisions"][-1]["choice"] == "none"
    steps = PostProcess.from_list(stored["postprocessing"], TABLE)
    label = np.repeat(np.arange(3), 4)[None].repeat(8, 0).astype(np.int16)
    broken = label.copy()
    broken[1, 1], broken[3, 9] = 1, 0
    assert (steps(broken, Grid.regular(label.shape, (10, 10)), TABLE) == label).all()


def test_probabilities_are_averaged_before_the_decision() -> None:
    one, two = np.array([[0.6], [0.4], [0.0]]), np.array([[0.1], [0.4], [0.5]])
    valid = np.array([True])
    assert decided([one, two], TABLE, valid).tolist() == [1], "0.35, 0.4, 0.25, though neither prefers class 1"
    assert decided([one], TABLE, valid).tolist() == [0]
    assert decided([one, two], TABLE, ~valid).tolist() == [0]
    regions = LabelTable.declare({"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    assert decided([np.array([[0.9], [0.2]]), np.array([[0.3], [0.7]])], regions, valid).tolist() == [1]


def test_steps_to_try_follow_the_data() -> None:
    scenes = [Grid.regular((9, 9), (1, 1))]
    kinds = {step["step"] for step in steps_to_try(TABLE, scenes)}
    assert kinds == {"remove_small", "fill_holes", "sieve"}
    volumes = steps_to_try(TABLE, [Grid.regular((9, 9, 9), (1, 1, z)) for z in (1, 2, 9)])
    assert {step["step"] for step in volumes} == {"keep_largest", "remove_small", "fill_holes"}
    assert [step["classes"] for step in volumes if step["step"] == "keep_largest"] == ["all", ["a"], ["b"]]
    assert {(step["size"], step["unit"]) for step in volumes if "size" in step} == {
        (16.0, "mm3"), (128.0, "mm3"), (1020.0, "mm3")
    }  # fmt: skip
    land = LabelTable.declare({"water": 0, "forest": 1}, background=None)
    assert {step["step"] for step in steps_to_try(land, scenes)} == {"sieve"}


def test_scores_are_those_of_the_metric_and_its_direction() -> None:
    assert Scorer("dice", TABLE).larger
    assert not Scorer("hd95", TABLE).larger
    for name in ("auc", "miou", "dyce"):
        with pytest.raises(InputError, match=f"criterion={name}: expected one of .*dice"):
            Scorer(name, TABLE)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("steps=[erode]", "steps=erode: expected one of keep_largest"),
        ("unit=cm3", "unit=cm3: expected one of px, mm3"),
        ("judged=first", "judged=first: expected one of best, last"),
        ("alpha=2", "alpha=2: expected a number > 0 and < 1"),
        ("criterion=dyce", "criterion=dyce: expected one of"),
        ("data.root=nowhere", "nowhere"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    message: str,
) -> None:
    words = ["medseg-select", f"runs=[{place}/A]", f"output={tmp_path}/out", "device=cpu", word]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
