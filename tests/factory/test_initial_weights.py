"""What happens to a network before its first step, from the command's configuration to the run folder."""

import json
import math
from pathlib import Path

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors.torch import save_file

from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.errors import InputError
from medseg.factory.initial_weights import begin, statistics
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.models.network import ModelSpec, Network
from medseg.sample import Channel, DataSpec
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


def trained_on(folder: Path, names: tuple[str, ...], model: list[str]) -> tuple[Path, torch.nn.Module]:
    """A file of ONNX with all tensors of a network for these bands, and JSON next to it; and the network."""
    import onnx
    from onnx import helper, numpy_helper

    torch.manual_seed(2)
    net = built(names, model)[1]
    tensors = {name: t.numpy() for name, t in net.state_dict().items() if "num_batches" not in name}
    stored = [numpy_helper.from_array(t, f"model.{name}") for name, t in tensors.items()]
    onnx.save(helper.make_model(helper.make_graph([], "graph", [], [], stored)), str(folder / "net.onnx"))
    statistics = {"band_names": names, "mean": [0.2] * len(names), "std": [0.1] * len(names)}
    (folder / "net.json").write_text(json.dumps(statistics))
    return folder / "net.onnx", net


def built(
    names: tuple[str, ...], model: list[str], weights: Path | None = None
) -> tuple[DictConfig, Network, DataSpec]:
    """Configuration, network and data of scenes with these bands."""
    cfg = compose("train", ["data=rasters", "data.root=none", *model, f"weights={weights or 'null'}"])
    channels = tuple(Channel(name) for name in names)
    about = ModelSpec(
        in_channels=len(names), out_channels=2, patch_shape=(64, 64), spacing=(1.0, 1.0), kernels=(), strides=(),
        channels=channels,
    )  # fmt: skip
    return cfg, instantiate(cfg.model)(about), DataSpec(channels, LabelTable.declare({"land": 0, "water": 1}), 2)


@pytest.mark.parametrize(
    "model",
    [
        ["model=smp_unet", "model.encoder=tu-test_resnet"],
        ["model=encoder_decoder", "model/encoder=timm", "model.encoder.name=test_resnet"],
    ],
    ids=["smp", "encoder_decoder"],
)
def test_all_of_a_network_goes_to_other_bands_by_name(tmp_path: Path, model: list[str]) -> None:
    weights, trained = trained_on(tmp_path, ("blue", "red", "nir"), model)
    cfg, net, spec = built(("B8", "B5", "B2", "B4"), model, weights)
    report = begin(cfg, net, spec, [Normalisation("standard", mean=2000.0, std=1000.0)] * 4)
    assert report is not None
    assert report.share == 1.0
    words = [origin for _, origin in report.channels]
    assert [w.split(",")[0] for w in words] == [
        "copied from nir",
        "mean of all 3",
        "copied from blue",
        "copied from red",
    ]
    assert "as if in another unit: B8 1000 instead of 0.1" in report.table()
    own, file = net.state_dict(), trained.state_dict()
    (stem,) = [name for name, t in own.items() if t.shape != file[name].shape]
    assert torch.allclose(own[stem][:, [2, 3, 0]], file[stem] * 0.75)
    assert all(torch.equal(t, file[name]) for name, t in own.items() if name != stem)


def test_a_first_kernel_of_another_size_is_refused_unless_it_is_accepted(tmp_path: Path) -> None:
    model = ["model=smp_unet", "model.encoder=tu-test_resnet"]
    _, trained = trained_on(tmp_path, ("blue", "red"), model)
    (stem,) = [name for name, t in trained.state_dict().items() if t.ndim == 4 and t.shape[1] == 2]
    torch.save(trained.state_dict() | {stem: torch.ones(len(trained.state_dict()[stem]), 2, 9, 9)}, tmp_path / "a.pth")
    cfg, net, spec = built(("blue", "red"), model, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"give weights with such a kernel, or accept it by accept=\[stem\]$"):
        begin(cfg, net, spec)
    cfg.accept = ["stem"]
    report = begin(cfg, net, spec)
    assert report is not None
    assert report.named("random") == [stem]
