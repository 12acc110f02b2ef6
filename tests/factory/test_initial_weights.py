"""What happens to a network before its first step, from the command's configuration to the run folder."""

import math
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.factory.initial_weights import statistics
from medseg.hydra_app.compose import compose
from medseg.training.train import train

SCENES = [
    "data=phantom_scenes", "data.n_scenes=3", "split.n_folds=3", "data.n_test=0", "data.shape=[64,72]",
    "trainer.steps_per_epoch=1", "model=encoder_decoder", "model.encoder.name=test_resnet", "plan.batch_size=2",
    "trainer.max_time=null", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_steps=1",
    "transform=light", "logger=csv", "metric=overlap", "callback={}", "test=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("initial")


def run(folder: Path, name: str, *overrides: str) -> Path:
    own = [f"data.root={folder}/raw", f"cache_dir={folder}/cache", f"run_dir={folder}/{name}"]
    return train(compose("train", [*SCENES, *own, *overrides]))


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "resnet.safetensors")
    return folder / "resnet.safetensors"


@pytest.fixture(scope="module")
def trained(folder: Path, weights: Path) -> Path:
    return run(folder, "first", "plan.patch=[32,32]", f"model.encoder.weights={weights}", "model.encoder.adapt=mean")


@pytest.mark.parametrize(
    "overrides, line",
    [
        (["plan.patch=[16,16]"], r"too deep for the patch: .*set plan\.patch=\[32,32\]"),
        (["model.encoder.name=resnet5O"], "the nearest are resnet50"),
        (["model.decoder.level=7"], r"level=7: the encoder has 5 features"),
        (["model.encoder.weights=nowhere.pth"], r"nowhere\.pth"),
        (["model.encoder.weights=nowhere.pth", "plan.patch=[16,16]"], "too deep"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_case_is_read(tmp_path: Path, overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        run(tmp_path, "run", *overrides)
    assert not (tmp_path / "cache").exists()  # nothing was fingerprinted or prepared
    assert not (tmp_path / "run").exists()


def test_a_run_tells_where_its_weights_came_from(trained: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    told = (trained / "weights.txt").read_text(encoding="utf-8")
    assert str(weights) in told.splitlines()[0]
    assert "100 % of" in told
    stored = checkpoint.read(trained / "checkpoints/last.ckpt").metadata.provenance["weights"]
    assert stored["source"] == str(weights)


def test_the_weights_were_in_the_network(folder: Path, trained: Path, weights: Path) -> None:
    frozen = run(
        folder, "still", "plan.patch=[32,32]", f"model.encoder.weights={weights}", "optimizer.lr=0",
    )  # fmt: skip
    given = timm.create_model("test_resnet", checkpoint_path=str(weights)).state_dict()
    state = checkpoint.read(frozen / "checkpoints/last.ckpt").network_state
    for key in ("layer1.0.conv1.weight", "layer4.0.conv2.weight"):
        assert torch.equal(state[f"encoder.net.{key}"], given[key])


def test_resuming_loads_no_weights_but_keeps_their_account(trained: Path, weights: Path, folder: Path) -> None:
    settings = ["plan.patch=[32,32]", f"model.encoder.weights={weights}", "ckpt_path=last", "trainer.max_steps=2"]
    moved = weights.rename(weights.with_name("moved.safetensors"))
    try:
        run(folder, trained.name, *settings)
    finally:
        moved.rename(weights)
    stored = checkpoint.read(trained / "checkpoints/last.ckpt")
    assert stored.step == 2
    assert stored.metadata.provenance["weights"]["source"] == str(weights)
    assert (trained / "weights.txt").exists()


def test_statistics_are_told_where_they_are_those_of_the_training_set() -> None:
    told = statistics([Normalisation("standard", mean=3.0, std=2.0), Normalisation("zscore"), Normalisation("rgb")])
    assert told["mean"][0] == 3.0
    assert told["std"][0] == 2.0
    assert all(math.isnan(v) for key in told for v in told[key][1:])
