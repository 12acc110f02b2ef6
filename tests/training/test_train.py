"""The whole way on a tiny phantom: train, resume, predict, evaluate."""

import csv
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra
import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf

import medseg
from medseg import checkpoint, formats
from medseg.errors import InputError
from medseg.hydra_app.conf import conf_dir
from medseg.prediction.predict import predict
from medseg.training.train import train

TINY = [
    "data=phantom_volumes", "data.n_cases=6", "data.n_test=2", "data.shape=[24,28,20]", "split.n_folds=3",
    "trainer.steps_per_epoch=3", "plan.patch=[16,16,16]", "plan.batch_size=2", "model.base_features=4",
    "trainer.max_steps=9", "logger=csv", "trainer.accelerator=cpu", "trainer.deterministic=true",
]  # fmt: skip


def compose(name: str, overrides: Sequence[str]) -> Any:
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run_dir(cache: Path) -> Path:
    cfg = compose("train", [*TINY, f"cache_dir={cache}", f"run_dir={cache}/runs/one"])
    return train(cfg)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.read(path).network_state)


def test_run_folder_holds_what_is_promised(run_dir: Path) -> None:
    promised = {
        "config.yaml", "plan.yaml", "metrics.csv", "metrics.json", "cases.csv", "provenance.json", "report.html",
    }  # fmt: skip
    assert promised <= {p.name for p in run_dir.iterdir()}
    assert {p.name for p in (run_dir / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    result = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    assert set(result) == {"summary", "classes", "policy", "cases", "confusion", "calibration"}
    assert result["calibration"] == checkpoint.read(run_dir / "checkpoints/best.ckpt").metadata.calibration
    assert result["calibration"]["cases"] == 2, "of validation, not of the test"
    assert {"dice", "hd95_mm", "nsd", "volume_error_mm3"} <= set(result["summary"])
    assert set(result["classes"]) == {"liver", "stomach", "left kidney", "right kidney", "aorta"}
    assert len({row["case"] for row in result["cases"]}) == 2
    with (run_dir / "metrics.csv").open() as stream:
        columns = set(next(csv.reader(stream)))
    assert {"train/loss", "val/dice", "val/dice/aorta", "train/lr"} <= columns
    origin = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert origin["packages"]["torch"] == metadata.version("torch")
    assert set(origin["data"]["files"]) == {f"phantom_{i:03d}" for i in range(6)}
    assert all(
        len(bytes.fromhex(digest)) == 16 for digest in (origin["data"]["digest"], *origin["data"]["files"].values())
    )
    assert checkpoint.read(run_dir / "checkpoints/best.ckpt").metadata.provenance["data"] == origin["data"]
    config = OmegaConf.load(run_dir / "config.yaml")
    assert config.trainer.precision != "auto"
    assert config.model.base_features == 4


def test_prediction_of_files_equals_the_judgement_of_the_run(run_dir: Path, cache: Path) -> None:
    from medseg.evaluation.evaluate import evaluate

    images = next((cache / "phantom_volumes").glob("*/imagesTs"))
    out = cache / "predictions"
    overrides = [f"checkpoint={run_dir}/checkpoints/best.ckpt", f"input={images}", f"output={out}", "device=cpu"]
    written = predict(compose("predict", overrides))
    assert [p.name for p in written] == ["phantom_006.nii.gz", "phantom_007.nii.gz"]
    for path in written:
        source = images / f"{formats.stem(path)}_0000.nii.gz"
        first, second = nibabel.load(source), nibabel.load(path)
        np.testing.assert_array_equal(first.affine, second.affine)
        assert first.shape == second.shape
        itk_source, itk_label = SimpleITK.ReadImage(str(source)), SimpleITK.ReadImage(str(path))
        assert itk_source.GetSize() == itk_label.GetSize()
        assert itk_source.GetDirection() == itk_label.GetDirection()
        assert itk_source.GetOrigin() == itk_label.GetOrigin()
    labels = images.parent / "labelsTs"
    evaluate(compose("evaluate", [f"predictions={out}", f"labels={labels}", f"output={cache}/scores"]))
    by_file = json.loads((cache / "scores" / "metrics.json").read_text(encoding="utf-8"))
    by_run = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    assert by_file["summary"] == by_run["summary"]
    before = written[0].stat().st_mtime_ns
    predict(compose("predict", overrides))
    assert written[0].stat().st_mtime_ns == before, "existing predictions are kept"


def test_load_gives_the_same_predictor(run_dir: Path, cache: Path) -> None:
    predictor = medseg.load(run_dir / "checkpoints" / "best.ckpt", device="cpu")
    path = sorted((cache / "phantom_volumes").glob("*/imagesTs/*"))[0]
    source = formats.open(path)
    array = predictor(source.read(), source.grid)
    target = predictor.file(path, cache / "one.nii.gz")
    np.testing.assert_array_equal(array, formats.open(target).read()[0])
    assert array.dtype == np.uint8
    with pytest.raises(InputError, match="got an image with 2 channels, the network takes 1"):
        predictor(np.zeros((2, *source.grid.shape), np.float32), source.grid)


class _Stop(Callback):
    """Dies like a killed process, in the middle of the third epoch."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 7:
            raise RuntimeError("killed")


def logged(folder: Path) -> list[tuple[str, str, str]]:
    """Step, key and value of each training loss and validation score."""
    with (folder / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [(row["step"], key, row[key]) for row in rows for key in ("train/loss", "val/dice") if row.get(key)]


def test_resumed_training_equals_an_uninterrupted_one(run_dir: Path, cache: Path) -> None:
    settings = [*TINY, f"cache_dir={cache}", f"run_dir={cache}/runs/two", "test=false"]
    stopped = compose("train", [*settings, "+callback.stop._target_=tests.training.test_train._Stop"])
    with pytest.raises(RuntimeError, match="killed"):
        train(stopped)
    killed = weights(cache / "runs/two/checkpoints/last.ckpt")
    train(compose("train", [*settings, "ckpt_path=last"]))
    resumed, whole = (weights(d / "checkpoints" / "last.ckpt") for d in (cache / "runs/two", run_dir))
    assert any(not torch.equal(killed[name], whole[name]) for name in whole)
    for name in whole:
        assert torch.equal(resumed[name], whole[name]), name
    assert logged(cache / "runs/two")[-2:] == logged(run_dir)[-2:], "the steps are the same, too"


@pytest.mark.slow
def test_resumed_training_with_accumulated_gradients_equals_an_uninterrupted_one(cache: Path) -> None:
    settings = [*TINY, "trainer.accumulate_grad_batches=2", f"cache_dir={cache}", "test=false"]
    whole = train(compose("train", [*settings, f"run_dir={cache}/runs/parts"]))
    own = [*settings, f"run_dir={cache}/runs/killed_parts"]
    with pytest.raises(RuntimeError, match="killed"):
        train(compose("train", [*own, "+callback.stop._target_=tests.training.test_train._Stop"]))
    resumed = train(compose("train", [*own, "ckpt_path=last"]))
    first, second = (weights(folder / "checkpoints" / "last.ckpt") for folder in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert checkpoint.read(whole / "checkpoints" / "last.ckpt").step == 9, "steps are the optimiser's"
    rows = [(folder / "metrics.csv").read_text(encoding="utf-8").splitlines()[-1] for folder in (whole, resumed)]
    assert rows[0] == rows[1], "val/loss too"


def test_a_budget_that_ends_within_an_epoch_is_validated_too(cache: Path) -> None:
    short = ["trainer.max_steps=4", f"cache_dir={cache}", f"run_dir={cache}/runs/short", "test=false"]
    folder = train(compose("train", [*TINY, *short]))
    with (folder / "metrics.csv").open() as stream:
        judged = [int(row["step"]) for row in csv.DictReader(stream) if row["val/dice"]]
    assert judged == [2, 3]
    assert (folder / "checkpoints" / "best.ckpt").is_file()


def test_a_training_is_never_overwritten(run_dir: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="already holds a training; ckpt_path=last resumes it"):
        train(compose("train", [*TINY, f"cache_dir={cache}", f"run_dir={run_dir}"]))


def test_another_checkpoint_is_not_continued_in_a_folder_that_holds_a_training(run_dir: Path, cache: Path) -> None:
    other = run_dir.parent / "other.ckpt"
    other.touch()
    with pytest.raises(InputError, match="already holds a training; ckpt_path=last resumes it"):
        train(compose("train", [*TINY, f"cache_dir={cache}", f"run_dir={run_dir}", f"ckpt_path={other}"]))


def test_a_budget_that_is_no_time_is_told(cache: Path) -> None:
    with pytest.raises(InputError, match=r"'20min'.* is not a valid duration.*check the keys under trainer"):
        train(compose("train", [*TINY, f"cache_dir={cache}", f"run_dir={cache}/none/x", "trainer.max_time=20min"]))
    assert not (cache / "none").exists()


def test_another_network_is_not_resumed(run_dir: Path, cache: Path) -> None:
    other = ["model.base_features=8", f"cache_dir={cache}", f"run_dir={run_dir}", "ckpt_path=last"]
    with pytest.raises(InputError, match=r"trained with another network \(model.base_features 4 -> 8\)"):
        train(compose("train", [*TINY, *other]))


def test_a_setting_of_another_network_is_told(cache: Path) -> None:
    other = ["+model.feature_size=12", f"cache_dir={cache}", f"run_dir={cache}/none/x"]
    with pytest.raises(InputError, match=r"model.feature_size is no setting of medseg.models.unet.UNet; .*'~model"):
        train(compose("train", [*TINY, *other]))
