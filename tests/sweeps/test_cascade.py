"""A cascade from one command, and the words that it does not take."""

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg import checkpoint
from medseg.cli.train import main
from medseg.data.datasets.second_stage import prediction_file
from medseg.export import runner
from medseg.export.export import export
from medseg.hydra_app.compose import compose
from medseg.inference.cascade import CascadedPredictor
from medseg.prediction import restore
from medseg.sweeps.cascade import _left, wanted
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet


def command(place: Path, *words: str) -> list[str]:
    return [
        "medseg-train",
        *SMALL,
        f"data.root={place}/data",
        f"cache_dir={place}/cache",
        f"run_dir={place}/run",
        *words,
    ]


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> object:
    monkeypatch.setattr(sys, "argv", list(argv))
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def test_a_command_asks_for_a_cascade_or_does_not() -> None:
    assert wanted(["-m", "cascade=true"])
    assert wanted(["cascade=auto"])
    assert wanted(["cascade=nonsense"])
    assert not wanted(["seed=1"])
    assert not wanted(["cascade=false"])
    assert not wanted(["cascade=true", "cascade=false"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cascade=true"], "got no sweep, expected -m split.fold=0,1,2,3,4"),
        (["cascade=true", "split.fold=0"], "got no sweep"),
        (["-m", "cascade=true", "split.fold=0,1", "seed=0,1"], "got a sweep over split.fold, seed"),
        (["-m", "cascade=yes", "split.fold=0,1"], "cascade=yes: choose true, false or auto"),
        (["-m", "cascade=true", "split.fold=0,1", "split.n_folds=3"], "2 cases validate in none of the folds 0, 1"),
        (["-m", "cascade=true", "split.fold=0,1", "plan.file=p.yaml"], "leave out plan.file"),
        (["-m", "cascade=true", "split.fold=0,1", "first_stage=a"], "leave out first_stage"),
    ],
)
def test_words_that_a_cascade_does_not_take_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    write_nnunet(tmp_path / "data", n_cases=6)
    assert run(monkeypatch, *command(tmp_path, *words)) == 2
    out = capfd.readouterr()
    lines = [line for line in (out.out + out.err).splitlines() if "error" in line]
    assert len(lines) == 1, out
    assert message in lines[0]
    assert not (tmp_path / "run").exists()


def test_a_training_alone_refuses_a_cascade(tmp_path: Path) -> None:
    cfg = compose("train", [*SMALL, "data.root=data", "cascade=true", f"run_dir={tmp_path}/run"])
    with pytest.raises(Exception, match="cascade=True: takes predictions of unseen cases"):
        train(cfg)


def test_predictions_of_another_network_are_made_again(tmp_path: Path) -> None:
    assert _left(tmp_path, ["a", "b"], "one") == ["a", "b"]
    for case in ("a", "b"):
        prediction_file(tmp_path, case).touch()
    assert _left(tmp_path, ["a", "b"], "one") == []
    assert _left(tmp_path, ["c"], "one") == ["c"]
    assert _left(tmp_path, ["a"], "two") == ["a"]
    assert prediction_file(tmp_path, "b").exists()
    assert not prediction_file(tmp_path, "a").exists()


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Folder of a cascade of two folds, and what the command ended with, first and when repeated."""
    place = tmp_path_factory.mktemp("cascade")
    write_nnunet(place / "data", n_cases=4)
    ends = []
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            end = run(patch, *command(place, "-m", "cascade=true", "split.fold=0,1", "split.n_folds=2"))
            times = {p: p.stat().st_mtime_ns for p in sorted(place.rglob("*.ckpt")) + sorted(place.rglob("*.nii.gz"))}
            ends.append((end, times))
    return place, ends


@pytest.mark.slow
def test_both_stages_are_cross_validated_and_not_repeated(cascade: tuple[Path, list[Any]]) -> None:
    place, (first, again) = cascade
    assert first[0] == again[0] == 0
    assert first[1] == again[1], "nothing was trained or predicted again"
    for stage in ("low_resolution", "full_resolution"):
        result = json.loads((place / "run" / stage / "metrics.json").read_text(encoding="utf-8"))
        assert len({row["case"] for row in result["cases"]}) == 4
        assert result["missing"] == []


@pytest.mark.slow
def test_each_case_is_predicted_by_the_first_network_that_did_not_see_it(cascade: tuple[Path, list[Any]]) -> None:
    place, _ = cascade
    low = place / "run/low_resolution"
    seen = []
    for fold in range(2):
        network = checkpoint.read(low / f"{fold}/checkpoints/best.ckpt")
        predictor = restore.predictor(network, device="cpu")
        for case in network.metadata.provenance["data"]["val"]:
            image = nib.load(place / f"data/imagesTr/{case}_0000.nii.gz")
            expected = place / "expected.nii.gz"
            predictor.file(image.get_filename(), expected)
            found = nib.load(prediction_file(low / "out_of_fold", case))
            np.testing.assert_array_equal(found.get_fdata(), nib.load(expected).get_fdata())
            seen.append(case)
    assert sorted(seen) == ["c0", "c1", "c2", "c3"]


@pytest.mark.slow
def test_a_checkpoint_of_the_second_stage_predicts_by_itself(cascade: tuple[Path, list[Any]], tmp_path: Path) -> None:
    place, _ = cascade
    held = checkpoint.read(place / "run/full_resolution/0/checkpoints/best.ckpt")
    low = checkpoint.read(place / "run/low_resolution/0/checkpoints/best.ckpt")
    assert held.first_stage is not None
    assert held.first_stage.digest == low.digest
    assert [c.name for c in held.metadata.spec.channels] == ["MR", "first stage"]
    coarse, fine = low.metadata.plan.spacing, held.metadata.plan.spacing
    assert coarse == pytest.approx([2 * s for s in fine])
    predictor = restore.predictor(held, device="cpu")
    assert isinstance(predictor.arrays, CascadedPredictor)
    assert (
        predictor.digest == held.digest != checkpoint.read(place / "run/full_resolution/1/checkpoints/best.ckpt").digest
    )
    assert [c.name for c in predictor.spec.channels] == ["MR"]
    both = restore.predictor(place / "run/full_resolution", device="cpu")
    both.file(place / "data/imagesTr/c0_0000.nii.gz", tmp_path / "c0.nii.gz")
    assert nib.load(tmp_path / "c0.nii.gz").shape == nib.load(place / "data/imagesTr/c0_0000.nii.gz").shape


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split.fold=1", "split.n_folds=4"], "was trained on 1 cases of this validation fold"),
        (["split.fold=3", "split.n_folds=4"], "none of its 2 runs has a best.ckpt of split.fold=3"),
        (["split.fold=0", "split.n_folds=2", "data.root={place}/other"], "was trained on channels ['MR'] and classes"),
    ],
)
def test_a_first_stage_that_does_not_fit_is_refused(
    cascade: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], words: list[str], message: str,
) -> None:  # fmt: skip
    place, _ = cascade
    other = write_nnunet(tmp_path / "other", n_cases=4) / "dataset.json"
    other.write_text(other.read_text(encoding="utf-8").replace('"posterior"', '"tail"'), encoding="utf-8")
    words = [word.format(place=tmp_path) for word in words]
    argv = command(place, f"first_stage={place}/run/low_resolution", *words)
    argv[argv.index(f"run_dir={place}/run")] = f"run_dir={tmp_path}/other"
    code = run(monkeypatch, *argv)
    out = capfd.readouterr()
    assert code == 2
    assert message in out.out + out.err


@pytest.mark.slow
def test_an_exported_cascade_predicts_the_same_with_and_without_its_checkpoints(
    cascade: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    place, _ = cascade
    second = place / "run/full_resolution/1/checkpoints/best.ckpt"
    cfg = compose("export", [f"checkpoint={second}", f"output={tmp_path}/out", "format=pt2", "flips=true"])
    export(cfg)
    image, files = place / "data/imagesTr/c0_0000.nii.gz", [tmp_path / f"{name}.nii.gz" for name in "abc"]
    runner.Predictor(tmp_path / "out").file([image], files[0])
    restore.predictor(second, device="cpu", flips=True).file(image, files[1])
    restore.predictor(tmp_path / "out", device="cpu", flips=True).file(image, files[2])
    labels = [nib.load(file).get_fdata() for file in files]
    assert len(np.unique(labels[0])) > 1
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])
