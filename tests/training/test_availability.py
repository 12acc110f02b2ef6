"""A training on cases that lack channels: scores by availability, predictions without them, the exported runner."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import medseg
from medseg import checkpoint, formats
from medseg.cli.evaluate import start
from medseg.errors import InputError
from medseg.export import runner
from medseg.export.export import export
from medseg.hydra_app.compose import compose
from medseg.prediction.predict import predict
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet

OWN = ("split.n_folds=2", "data.absent=allow", "transform.channel_drop.p=0.5", "split.val_cases=[c0,c1,c2]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the validation cases c1 lacks the second channel, c2 the first; of those of the training c3."""
    folder = tmp_path_factory.mktemp("trained")
    root = write_nnunet(folder / "data", n_cases=6, channels=["T1", "T2"])
    for name in ("c1_0001", "c2_0000", "c3_0001"):
        (root / f"imagesTr/{name}.nii.gz").unlink()
    train(compose("train", [*SMALL, *OWN, f"data.root={root}", f"cache_dir={folder}/cache", f"run_dir={folder}/run"]))
    return folder


def again(folder: Path, *words: str) -> dict[str, Any]:
    return start(compose("evaluate", [f"run={folder}/run", "device=cpu", *words]))


def predicted(folder: Path, source: object, output: Path) -> list[np.ndarray]:
    words = [f"checkpoint={folder}/run/checkpoints/last.ckpt", f"input={source}", f"output={output}", "device=cpu"]
    return [formats.open(path).read()[0] for path in predict(compose("predict", words))]


def test_scores_by_available_channels(trained: Path) -> None:
    result = json.loads((trained / "run/metrics.json").read_text(encoding="utf-8"))
    parts = result["availability"]
    assert [(part["channels"], part["cases"]) for part in parts] == [
        (["T1", "T2"], ["c0"]), (["T1"], ["c1"]), (["T2"], ["c2"]),
    ]  # fmt: skip
    for part in parts:
        (case,) = part["cases"]
        for name, by in part["classes"].items():
            (row,) = [row for row in result["cases"] if (row["case"], row["class"]) == (case, name)]
            assert by["dice"]["mean"] == row["dice"]
    with (trained / "run/cases.csv").open(encoding="utf-8", newline="") as file:
        lacks = {row["case"]: row["lacks"] for row in csv.DictReader(file)}
    assert lacks == {"c0": "", "c1": "T2", "c2": "T1"}
    assert "Scores by available channels" in (trained / "run/report.html").read_text(encoding="utf-8")


def test_channels_are_taken_away_at_test_time(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained / "run", copy / "run")
    before = (copy / "run/metrics.json").read_bytes()
    without = ["without=[T2]", f"output={tmp_path}/out"]
    with pytest.raises(InputError, match=r"case c2: has the channels \['T2'\], of which none is left without T2"):
        again(copy, *without)
    root = shutil.copytree(trained / "data", tmp_path / "data")
    shutil.copy(trained / "data/imagesTr/c0_0000.nii.gz", root / "imagesTr/c2_0000.nii.gz")
    result = again(copy, f"data.root={root}", "without=[T2]")
    assert [(part["channels"], part["cases"]) for part in result["availability"]] == [(["T1"], ["c0", "c1", "c2"])]
    assert result["policy"]["without"] == "T2"
    assert (copy / "run/without_T2/metrics.json").is_file()
    assert (copy / "run/metrics.json").read_bytes() == before
    for name in ("c0_0001", "c2_0001"):
        path = root / f"imagesTr/{name}.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    assert again(copy, f"data.root={root}", *without)["cases"] == result["cases"]
    for name in ("c0_0001", "c2_0001"):
        (root / f"imagesTr/{name}.nii.gz").unlink()
    gone = again(copy, f"data.root={root}", f"output={tmp_path}/gone")
    assert gone["cases"] == result["cases"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["without=[T1c]"], r"without=\['T1c'\]: no such channels or image groups, expected some of \['T1', 'T2'\]"),
        (["without=[T1,T2]"], "of which none is left without T1, T2"),
    ],
)
def test_other_channels_cannot_be_taken_away(words: list[str], message: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        again(trained, *words, f"output={tmp_path}/out")


def test_label_files_have_no_channels_to_take_away(tmp_path: Path) -> None:
    words = [f"predictions={tmp_path}", f"labels={tmp_path}", f"output={tmp_path}/out", "without=[T1]"]
    with pytest.raises(InputError, match="without takes channels away from the cases of a run; add run=RUN_DIR"):
        start(compose("evaluate", words))


def test_predictions_and_the_runner_take_cases_that_lack_channels(trained: Path, tmp_path: Path) -> None:
    raw = trained / "data/imagesTr"
    maps = predicted(trained, raw, tmp_path / "maps")
    assert len(maps) == 6
    (single,) = predicted(trained, f"{{T1: {raw}/c1_0000.nii.gz}}", tmp_path / "c1.nii.gz")
    np.testing.assert_array_equal(single, maps[1])
    predictor = medseg.load(trained / "run/checkpoints/last.ckpt", device="cpu")
    named = predictor.file({"T2": raw / "c2_0001.nii.gz"}, tmp_path / "c2.nii.gz")
    np.testing.assert_array_equal(formats.open(named).read()[0], maps[2])
    seen: list[np.ndarray] = []
    predictor.network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].numpy().copy()))
    predictor.file({"T2": raw / "c2_0001.nii.gz"}, tmp_path / "c2.nii.gz")
    assert all((window[:, 0] == 0).all() and window[:, 1].any() for window in seen)
    with pytest.raises(InputError, match="got files of CT, expected those of channels of the training: T1, T2"):
        predictor.file({"CT": raw / "c2_0001.nii.gz"}, tmp_path / "c2.nii.gz")

    export(compose("export", [f"checkpoint={trained}/run/checkpoints/last.ckpt", f"output={tmp_path}/out"]))
    parity = json.loads((tmp_path / "out/parity.json").read_text(encoding="utf-8"))["cases"]
    assert [one["case"] for one in parity] == ["drawn", "drawn without T1"]
    assert all(one["largest_difference"] < 1e-4 and one["cells_that_differ"] == 0 for one in parity)
    exported = runner.Predictor(tmp_path / "out")
    assert exported.settings["reading"]["absent"] == "allow"
    cases = runner.find_cases([raw], exported.settings)
    assert [sorted(files) if isinstance(files, dict) else len(files) for _, files in cases] == [
        2, ["T1"], ["T2"], ["T1"], 2, 2,
    ]  # fmt: skip
    for (name, files), cells in list(zip(cases, maps, strict=True))[:3]:
        own = formats.open(exported.file(files, tmp_path / f"{name}.nii.gz")).read()[0]
        np.testing.assert_array_equal(own, cells)
    with pytest.raises(runner.Refusal, match="got files of CT, expected one of each of T1, T2"):
        exported.file({"CT": raw / "c0_0000.nii.gz"}, tmp_path / "c0.nii.gz")


def test_a_training_on_complete_cases_predicts_complete_ones_alone(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "data", n_cases=4, channels=["T1", "T2"])
    places = [f"data.root={root}", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
    train(compose("train", [*SMALL, *places, "split.n_folds=2"]))
    assert "availability" not in json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert "lacks" not in (tmp_path / "run/cases.csv").read_text(encoding="utf-8")
    (root / "imagesTr/c1_0001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 missing image\(s\) in .* of 2 declared channels: c1 \(channel 1\)"):
        predicted(tmp_path, root / "imagesTr", tmp_path / "maps")
    with pytest.raises(InputError, match=r"got no file of T2; the network has learned to do without none"):
        predicted(tmp_path, f"{{T1: {root}/imagesTr/c0_0000.nii.gz}}", tmp_path / "c0.nii.gz")
    export(compose("export", [f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"output={tmp_path}/out"]))
    exported = runner.Predictor(tmp_path / "out")
    with pytest.raises(runner.Refusal, match="got files of T1, expected one of each of T1, T2"):
        exported.file({"T1": root / "imagesTr/c0_0000.nii.gz"}, tmp_path / "c0.nii.gz")


def test_it_resumes_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    words = [*SMALL, *OWN, f"data.root={trained}/data", f"cache_dir={trained}/cache", "test=false", "presence=true"]
    words += ["scheduler=constant"]  # another budget would be another course of the rate
    ends = {}
    for name, budgets in {"whole": (4,), "halves": (2, 4)}.items():
        for steps in budgets:
            places = [f"run_dir={tmp_path}/{name}", f"trainer.max_steps={steps}", "ckpt_path=last"]
            train(compose("train", [*words, *places]))
        ends[name] = checkpoint.read(tmp_path / name / "checkpoints/last.ckpt")
    assert [end.step for end in ends.values()] == [4, 4]
    before, after = (dict(end.network_state) for end in ends.values())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
