"""Heads of loss terms: they learn, continue exactly, and no prediction sees them."""

from pathlib import Path

import pytest
import torch

import medseg
from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.train import train

WORDS = (
    "data=phantom_scenes", "model=encoder_decoder", "model/encoder=timm", "model.encoder.name=test_resnet",
    "model/decoder=linear", "loss/term=[cross_entropy,semantic_boundaries,boundary_contrast,dynamic_subspaces]",
    "loss.terms.dynamic_subspaces.patience=1", "plan.patch=[32,32]",
    "plan.batch_size=2", "loss.terms.boundary_contrast.samples=8", "trainer.steps_per_epoch=2", "trainer.max_time=null",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=csv", "split.n_folds=3", "test=false",
    "data.n_scenes=3", "data.shape=[64,72]", "data.n_test=0", "scheduler=constant",
    "transform=light", "callback.previews=null",
)  # fmt: skip


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the method in the last checkpoint."""
    held = torch.load(folder / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)
    tensors: dict[str, torch.Tensor] = held["state_dict"]
    return tensors


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heads")


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    """Four steps without interruption."""
    return train(compose("train", [*WORDS, "trainer.max_steps=4", f"cache_dir={cache}", f"run_dir={cache}/whole"]))


def test_a_resumed_training_equals_an_uninterrupted_one(cache: Path, folder: Path) -> None:
    own = [*WORDS, f"cache_dir={cache}", f"run_dir={cache}/parts"]
    train(compose("train", [*own, "trainer.max_steps=2"]))
    train(compose("train", [*own, "trainer.max_steps=4", "ckpt_path=last"]))
    first, second = stored(cache / "parts"), stored(folder)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    memory = next(tensor for name, tensor in first.items() if name.endswith("boundary_contrast.memory"))
    assert memory.abs().sum() > 0
    assert next(tensor for name, tensor in first.items() if name.endswith("dynamic_subspaces.centres")).any()


def test_a_prediction_sees_the_network_alone(folder: Path) -> None:
    predictor = medseg.load(folder / "checkpoints/last.ckpt")
    names = {name for name, _ in predictor.arrays.network.named_parameters()}
    assert names == {name.removeprefix("network.") for name in stored(folder) if name.startswith("network.")} & names
    assert not any("boundar" in name for name in names)


def test_a_network_without_declared_features_is_refused_before_data_is_read(tmp_path: Path) -> None:
    words = ["model=unet_tiny", "loss/term=[dice,semantic_boundaries]", f"run_dir={tmp_path}/run", "logger=csv"]
    with pytest.raises(
        InputError, match=r"loss.terms.semantic_boundaries reads features .* take model=encoder_decoder"
    ):
        train(compose("train", [*words, f"cache_dir={tmp_path}/cache"]))
    assert not (tmp_path / "run").exists()
