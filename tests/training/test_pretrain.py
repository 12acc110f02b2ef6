"""Pretraining by the commands: no label is read, it resumes exactly, and segments nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import medseg
from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.run import assemble
from medseg.hydra_app.checks import check_given
from medseg.hydra_app.compose import compose
from medseg.training.train import train
from tests.tiny import write_nnunet

COMMON = [
    "split.n_folds=2", "trainer.steps_per_epoch=2", "plan.batch_size=2", "trainer.max_steps=4", "logger=csv",
    "trainer.accelerator=cpu", "trainer.deterministic=true", "callback.ema=null",
]  # fmt: skip
VOLUMES = ["data=phantom_volumes", "data.n_cases=6", "data.n_test=2", "data.shape=[24,28,20]", "plan.patch=[16,16,16]"]
NETWORK = ["model.base_features=4"]
MAE = [*COMMON, *VOLUMES, *NETWORK, "method=mae", "method.mask_patch_size=4"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    return train(compose("train", [*MAE, f"cache_dir={folder}/cache", f"run_dir={folder}/run"]))


def test_a_run_leaves_checkpoints_losses_and_pictures(pretrained: Path) -> None:
    assert {p.name for p in (pretrained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not (pretrained / "metrics.json").exists()
    header = (pretrained / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "val/loss" in header
    assert "val/dice" not in header
    (picture,) = list((pretrained / "reconstructions").glob("step_000004.png"))
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape == (256, 16 * (3 * 16 + 2 * 4), 3), "16 times as large"
    pixels = pixels[::16, ::16]
    assert pixels[:, 20:36].std() < pixels[:, :16].std(), "most of the second panel is hidden"


def test_prediction_refuses_it_and_says_what_it_is_for(pretrained: Path) -> None:
    with pytest.raises(InputError, match="segments nothing; fine-tune"):
        medseg.load(pretrained / "checkpoints" / "best.ckpt")


def test_a_resumed_pretraining_equals_one_in_a_piece(pretrained: Path, tmp_path: Path) -> None:
    whole = [*MAE, f"cache_dir={pretrained.parent}/cache", f"run_dir={tmp_path}/run"]
    train(compose("train", [*whole, "trainer.max_steps=2", "scheduler=constant"]))
    train(compose("train", [*whole, "scheduler=constant", "ckpt_path=last"]))
    train(compose("train", [*whole[:-1], "scheduler=constant", f"run_dir={tmp_path}/straight"]))
    one, two = (
        dict(checkpoint.read(tmp_path / run / "checkpoints" / "last.ckpt").network_state) for run in ("run", "straight")
    )
    assert all(torch.equal(one[key], two[key]) for key in two)


def test_labels_are_not_read(tmp_path: Path) -> None:
    run = assemble(compose("train", [*MAE, f"cache_dir={tmp_path}/cache"]), tmp_path)
    assert {case.label for part in run.datamodule.cases.values() for case in part} == {None}
    assert not run.method.metadata.segments


def cases_of(overrides: Sequence[str], folder: Path) -> tuple[list[str], list[str]]:
    cfg = compose("train", [*COMMON, *VOLUMES, *NETWORK, *overrides, f"cache_dir={folder}/cache"])
    cases = assemble(cfg, folder).datamodule.cases
    return [c.id for c in cases["train"]], [c.id for c in cases["val"]]


def test_few_labelled_cases_are_the_same_for_every_seed_and_nested(tmp_path: Path) -> None:
    whole, val = cases_of([], tmp_path)
    two, val_of_two = cases_of(["split.n_labelled=2"], tmp_path)
    again, _ = cases_of(["split.n_labelled=2", "seed=5"], tmp_path)
    one, _ = cases_of(["split.n_labelled=1"], tmp_path)
    assert len(two) == 2
    assert two == again
    assert set(one) < set(two) < set(whole)
    assert val == val_of_two
    pretraining, _ = cases_of(["split.n_labelled=2", "method=mae", "method.mask_patch_size=4"], tmp_path)
    assert set(whole) <= set(pretraining), "all images of the fold are there to pretrain on"
    assert not set(pretraining) & set(val)


@pytest.mark.parametrize("n, expected", [(0, "an integer >= 1"), (99, "1 to 3")])
def test_a_number_of_labelled_cases_that_there_are_not_is_refused(n: int, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"split\.n_labelled={n}: expected {expected}"):
        cases_of([f"split.n_labelled={n}"], tmp_path)


@pytest.mark.parametrize("method", ["simmim", "spark", "rotation", "mae"])
def test_every_method_trains_an_encoder_on_bands(method: str, tmp_path: Path) -> None:
    orientation = ["transform=none"] if method == "rotation" else []
    cfg = compose(
        "train",
        [
            *COMMON, "data=phantom_scenes", "data.n_scenes=4", "data.n_test=0", "data.shape=[64,64]",
            "plan.patch=[64,64]", "model=encoder_decoder", "model.encoder.name=test_resnet", "model/decoder=unet",
            "model.decoder.base_features=8", f"method={method}",
            *(["method.mask_patch_size=8"] if method == "mae" else []),
            *orientation, f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run",
        ],
    )  # fmt: skip
    folder = train(cfg)
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert list((folder / "reconstructions").glob("*.png"))


def test_a_training_begins_with_all_of_a_pretrained_network_but_its_last_layer(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = pretrained / "checkpoints" / "best.ckpt"
    few = [*COMMON, *VOLUMES, *NETWORK, f"cache_dir={pretrained.parent}/cache", "split.n_labelled=2"]
    run = assemble(compose("train", [*few, f"weights={best}"]), tmp_path)
    came = checkpoint.read(best).network_state
    own = run.method.network.state_dict()  # type: ignore[union-attr, operator]
    same = {key for key, tensor in own.items() if key in came and torch.equal(tensor, came[key])}
    assert {key for key in own if key not in same} == {key for key in own if key.startswith("heads.")}
    assert run.report is not None
    assert 0.9 < run.report.share < 1
    folder = train(compose("train", [*few, f"weights={best}", f"run_dir={tmp_path}/run", "test=false"]))
    assert str(best) in (folder / "weights.txt").read_text(encoding="utf-8")
    assert str(best) in capsys.readouterr().out
    metadata = checkpoint.read(folder / "checkpoints" / "last.ckpt").metadata
    assert metadata.provenance["weights"]["source"] == str(best)


def test_an_encoder_begins_with_a_pretrained_one_and_is_tuned_by_lora_and_resumes_exactly(tmp_path: Path) -> None:
    scenes = [
        *COMMON, "data=phantom_scenes", "data.n_scenes=4", "data.n_test=0", "data.shape=[64,64]",
        "plan.patch=[64,64]", "model=encoder_decoder", "model.encoder.name=test_resnet", f"cache_dir={tmp_path}/cache",
    ]  # fmt: skip
    first = train(compose("train", [*scenes, "method=simmim", f"run_dir={tmp_path}/simmim"]))
    best = first / "checkpoints" / "best.ckpt"
    tuned = [*scenes, "finetuning=lora", f"model.encoder.weights={best}", "scheduler=constant", "test=false"]
    straight = train(compose("train", [*tuned, f"run_dir={tmp_path}/straight"]))
    train(compose("train", [*tuned, f"run_dir={tmp_path}/run", "trainer.max_steps=2"]))
    (first / "checkpoints" / "best.ckpt").unlink()  # neither resuming nor predicting needs it again
    folder = train(compose("train", [*tuned, f"run_dir={tmp_path}/run", "ckpt_path=last"]))
    one, two = (checkpoint.read(r / "checkpoints" / "last.ckpt").network_state for r in (folder, straight))
    assert all(torch.equal(one[key], two[key]) for key in two)
    assert any("lora_A" in key for key in two)
    alone, whole = (folder / "checkpoints" / name for name in ("adapters.safetensors", "best.ckpt"))
    assert alone.stat().st_size < whole.stat().st_size / 4
    predictor = medseg.load(folder / "checkpoints" / "last.ckpt")
    assert all(torch.equal(tensor, two[key]) for key, tensor in predictor.network.state_dict().items())


@pytest.mark.parametrize("folder", ["labels", "null"])
def test_images_are_pretrained_on_without_a_label_table(folder: str, tmp_path: Path) -> None:
    """Labels that lie there are not read."""
    root = write_nnunet(tmp_path / "raw")
    (root / "imagesTr").rename(root / "images")
    (root / "labelsTr").rename(root / "labels")
    for path in (root / "labels").iterdir():
        path.write_bytes(b"no label")
    own = ["data=volumes", f"data.root={root}", "data.channels=[MR]", f"data.label_folder={folder}"]
    places = [f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run", "trainer.max_steps=2", "transform=none"]
    cfg = compose(
        "train", [*COMMON, *NETWORK, *own, *places, "plan.patch=[16,16,16]", "method=mae", "method.mask_patch_size=4"]
    )
    check_given(cfg, {}, "train")
    train(cfg)
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    supervised = compose("train", [*COMMON, *own])
    with pytest.raises(InputError, match=r"data\.labels is needed"):
        check_given(supervised, {}, "train")
