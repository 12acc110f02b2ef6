"""A stored configuration builds medseg's own networks, those of trusted modules, and runs nothing else."""

import copy
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import medseg
from medseg.checkpoint import Checkpoint
from medseg.cli import predict
from medseg.errors import InputError
from medseg.factory import trust
from medseg.geometry.grid import PIXEL, Grid
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.models.unet import UNet
from medseg.prediction import restore
from medseg.training.train import train
from tests import tiny_checkpoint
from tests.tiny import SMALL, write_nnunet

GRID = Grid.regular((16, 16), (1.0, 1.0), PIXEL)
IMAGE = np.random.default_rng(0).normal(size=(2, 16, 16))


class Own(UNet):
    """A network of a package other than medseg."""


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def held() -> dict[str, Any]:
    return tiny_checkpoint.contents()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no attack may leave ``ran``."""
    torch.save(_Touch(tmp_path / "ran"), tmp_path / "evil.pt")
    yield tmp_path
    assert not (tmp_path / "ran").exists()


def attacks(folder: Path) -> dict[str, dict[str, Any]]:
    """Settings by which Hydra alone would write ``ran``, or load a pickle that does."""
    ran, evil = str(folder / "ran"), str(folder / "evil.pt")
    path = {"_target_": "pathlib.Path", "_args_": [ran]}
    return {
        "setuptools._distutils.spawn.spawn": {"cmd": ["touch", ran]},
        "imaplib.IMAP4_stream": {"command": f"touch {ran}"},
        "asyncio.create_subprocess_shell": {"cmd": f"touch {ran}"},
        "torch.load": {"f": evil, "weights_only": False},
        "torch.serialization.load": {"f": evil, "weights_only": False},
        "numpy.load": {"file": evil, "allow_pickle": True},
        "pandas.read_pickle": {"filepath_or_buffer": evil},
        "pathlib.Path.write_text": {"_args_": [path, "x"]},
        "pathlib.Path.touch": {"_args_": [path]},
        "io.open": {"file": ran, "mode": "w"},
        "os.system": {"command": f"touch {ran}"},
        "subprocess.run": {"args": ["touch", ran]},
        "builtins.eval": {"_args_": [f"open({ran!r}, 'w')"]},
        "medseg.training.train.os.system": {"command": f"touch {ran}"},
        "medseg.checkpoint.subprocess.run": {"args": ["touch", ran]},
        "medseg.checkpoint.torch.load": {"f": evil, "weights_only": False},
        "medseg.models.huggingface.config.Path.touch": {"_args_": [path]},
        "medseg.models.unet.torch.load": {"f": evil, "weights_only": False},
        "medseg.finetuning.adapters.torch.load": {"f": evil, "weights_only": False},
        "medseg.finetuning.adapters.save": {"network": None, "path": ran},
        "medseg.runtime.atomic.write_whole": {"path": path, "text": "x"},
        "medseg.factory.instantiate.instantiate": {"config": {"_target_": "io.open", "file": ran, "mode": "w"}},
        "hydra.utils.instantiate": {"config": {"_target_": "io.open", "file": ran, "mode": "w"}},
    }


ATTACKS = list(attacks(Path()))


def put(config: dict[str, Any], at: str, value: Any) -> None:
    *parents, last = at.split(".")
    for key in parents:
        config = config[key]
    config[last] = value


def load_with(held: dict[str, Any], folder: Path, at: str, value: Any, **settings: Any) -> Any:
    """The predictor of a checkpoint in which one setting is another; it is not written where it is refused."""
    config = copy.deepcopy(held["medseg"]["config"])
    put(config, at, value)
    spec = held["medseg"]["spec"] | {"dates": 2 if at.startswith("temporal") else 0}
    changed = held | {"medseg": held["medseg"] | {"config": config, "spec": spec}}
    (folder / "best.ckpt").touch()  # its time is part of what names it
    return restore.predictor(Checkpoint.from_dict(changed, folder / "best.ckpt"), device="cpu", **settings)


def refusal(held: dict[str, Any], folder: Path, at: str, value: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        load_with(held, folder, at, value, **settings)
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert str(folder / "best.ckpt") in line
    return line


def test_an_honest_checkpoint_predicts(held: dict[str, Any], tmp_path: Path) -> None:
    labels = medseg.load(tiny_checkpoint.write(tmp_path / "best.ckpt", held), device="cpu")(IMAGE, GRID)
    assert labels.shape == (16, 16)


@pytest.mark.parametrize("target", ATTACKS)
@pytest.mark.parametrize(
    "at", ["model", "model.residual", "model.encoder_blocks", "finetuning", "finetuning.encoder_lr_scale", "temporal"]
)
def test_other_classes_never_run(held: dict[str, Any], place: Path, target: str, at: str) -> None:
    attack = {"_target_": target, **attacks(place)[target]}
    value = [{"deep": [attack]}] if at == "model.encoder_blocks" else attack
    line = refusal(held, place, at, value)
    key = "model.encoder_blocks[0].deep[0]" if at == "model.encoder_blocks" else at
    assert f"{key}." in line
    assert "only medseg's own networks are built from a stored configuration" in line


@pytest.mark.parametrize("target", ATTACKS[:10])
def test_other_classes_in_a_file_never_run(held: dict[str, Any], place: Path, target: str) -> None:
    residual = {"_target_": "builtins.bool", "_args_": [{"_target_": target, **attacks(place)[target]}]}
    path = place / "best.ckpt"
    tiny_checkpoint.write(path, held, lambda own: own["medseg"]["config"]["model"].update(residual=residual))
    with pytest.raises(InputError, match=r"model\.residual\._args_=.*only medseg's own networks"):
        medseg.load(path, device="cpu")


def test_arguments_without_names_are_refused_around_an_honest_class(held: dict[str, Any], place: Path) -> None:
    wrapped = {"_target_": "builtins.bool", "_args_": [{"_target_": "os.system", "command": f"touch {place / 'ran'}"}]}
    assert "model.residual._args_" in refusal(held, place, "model.residual", wrapped)


@pytest.mark.parametrize(
    "target",
    [
        "", ".", ".os.system", "medseg", "medseg.models", "medseg.models.unet", "medseg.models.unet.", "medseg..UNet",
        "medseg.models.unet.Network", "medseg.models.unet.ConvBlock", "medseg.models.unet.UNet.forward",
        "medseg.models.unet.UNet.__init__", "medseg.models.network.ModelSpec", "medseg.models.none.None_",
        "medseg.finetuning.lora.Lora", "medseg.models.decoders.unet.UNet", "medseg.models.unet.UNet\nx", 3, None, ["a"],
    ],
)  # fmt: skip
def test_what_is_no_network_is_none(held: dict[str, Any], place: Path, target: Any) -> None:
    assert "model" in refusal(held, place, "model._target_", target)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("model._args_", [1]), ("model._partial_", "yes"), ("model._recursive_", False), ("model._convert_", "weird"),
        ("model._other_", 1), ("model._convert_", ["all"]), ("finetuning._recursive_", False),
    ],
)  # fmt: skip
def test_further_directives_are_refused(held: dict[str, Any], place: Path, at: str, value: Any) -> None:
    assert at in refusal(held, place, at, value)


@pytest.mark.parametrize("at", ["model.norm", "model._target_", "finetuning.encoder_lr_scale", "model.residual"])
@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${oc.decode:1}", "a ${model.norm}", {"deep": ["${name}"]}])
def test_interpolations_are_not_resolved(held: dict[str, Any], place: Path, at: str, value: Any) -> None:
    line = refusal(held, place, at, value)
    assert os.environ.get("HOME", "no home") not in line.replace(str(place), "")


@pytest.mark.parametrize("key", ["checkpoint_path", "pretrained_cfg", "pretrained", "ckpt_path", "ckpt_data"])
def test_settings_may_not_name_files_to_load(held: dict[str, Any], place: Path, key: str) -> None:
    line = refusal(held, place, "model.settings", {key: str(place / "evil.pt")})
    assert f"model.settings.{key}" in line


def test_structures_without_end_are_refused(held: dict[str, Any], tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="nested too deeply"):
        trust.check({"model": {"_target_": "medseg.models.unet.UNet", "x": loop}}, "here")
    wide: list[Any] = []
    for _ in range(20):
        wide = [wide] * 10
    with pytest.raises(InputError, match="too large"):
        trust.check({"model": {"_target_": "medseg.models.unet.UNet", "x": wide}}, "here")


def options(*groups: str) -> list[Path]:
    return [path for group in groups for path in sorted((conf_dir() / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", options("model", "finetuning", "temporal"), ids=lambda p: p.stem)
def test_every_network_of_the_package_is_trusted(path: Path) -> None:
    option = named(path)
    if "_target_" in option:  # the others change one that has it
        trust.check({path.parent.name: option}, path.stem)


@pytest.mark.slow
@pytest.mark.parametrize("path", options("model/encoder", "model/decoder"), ids=lambda p: p.stem)
def test_every_part_of_a_network_is_trusted(path: Path) -> None:
    trust.check({"model": {"_target_": "medseg.models.encoder_decoder.EncoderDecoder", "part": named(path)}}, path.stem)


@pytest.mark.parametrize("path", options("model/encoder/fusion"), ids=lambda p: p.stem)
def test_every_fusion_is_trusted(path: Path) -> None:
    encoder = {"_target_": "medseg.models.encoders.joined.Joined", "fusion": named(path)}
    trust.check({"model": {"_target_": "medseg.models.encoder_decoder.EncoderDecoder", "encoder": encoder}}, path.stem)


def named(path: Path) -> dict[str, Any]:
    option: Any = OmegaConf.to_container(OmegaConf.load(path))
    option.pop("defaults", None)
    return _without_interpolations(option)  # type: ignore[no-any-return]


def _without_interpolations(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_interpolations(value) for key, value in node.items()}
    return "x" if isinstance(node, str) and "${" in node else node


@pytest.fixture
def package(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of somebody's own, whose import leaves ``imported``."""
    (place / "nets_of_mine").mkdir()
    (place / "nets_of_mine/__init__.py").write_text(
        f"import os\nfrom nets_of_mine.dilated import Net\nopen({str(place / 'imported')!r}, 'w').close()\n"
    )
    (place / "nets_of_mine/dilated.py").write_text(
        "import os\nfrom medseg.runtime.atomic import write_whole\nfrom medseg.models.unet import UNet\n"
        "class Net(UNet):\n    class Inner(UNet):\n        pass\n"
    )
    monkeypatch.syspath_prepend(place)
    yield place
    for name in [name for name in sys.modules if name.partition(".")[0] == "nets_of_mine"]:
        del sys.modules[name]


OWN = ["nets_of_mine.Net", "nets_of_mine.dilated.Net", "nets_of_mine.dilated.Net.Inner"]


@pytest.mark.parametrize("target", OWN)
def test_own_classes_need_trust(held: dict[str, Any], package: Path, target: str) -> None:
    line = refusal(held, package, "model._target_", target)
    assert line.endswith("if this is your own class, add trust=[nets_of_mine]")
    assert target in line
    assert not (package / "imported").exists()
    refusal(held, package, "model._target_", target, trust=["nets_of", "nets_of_mine.other"])
    assert not (package / "imported").exists()
    for trusted in ("nets_of_mine", ["another", "nets_of_mine"], [target]):
        predictor = load_with(held, package, "model._target_", target, trust=trusted)
        assert type(predictor.network).__module__ == "nets_of_mine.dilated"


@pytest.mark.parametrize("inner", ["os.system", "dilated.os.system", "dilated.write_whole", "missing", "dilated.Net.x"])
def test_trust_holds_for_what_a_module_defines(held: dict[str, Any], package: Path, inner: str) -> None:
    attack = {"_target_": f"nets_of_mine.{inner}", "command": f"touch {package / 'ran'}"}
    refusal(held, package, "model.residual", attack, trust=["nets_of_mine"])


@pytest.mark.parametrize("names", [["a-b"], [""], "a b", ["a..b"]])
def test_trust_names_modules(names: Any) -> None:
    with pytest.raises(InputError, match=r"trust=.*: expected names of modules"):
        trust.names(names)


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["medseg-predict", *words])
    predict.main()


def test_the_command_ends_with_one_line(
    held: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attack = {"_target_": "setuptools._distutils.spawn.spawn", "cmd": ["touch", str(place / "ran")]}
    path = tiny_checkpoint.write(
        place / "best.ckpt", held, lambda own: own["medseg"]["config"]["model"].update(residual=attack)
    )
    (place / "images").mkdir()
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, f"checkpoint={path}", f"input={place}/images", f"output={place}/out")
    assert ended.value.code == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"error: checkpoint={path}: model.residual._target_=setuptools._distutils.spawn.spawn: ")
    assert not (place / "out").exists()


def test_a_training_trusts_the_classes_that_it_names_itself(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "raw")
    words = [*SMALL, f"data.root={root}", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
    run_dir = train(compose("train", [*words, "model._target_=tests.factory.test_trust.Own"]))
    assert (run_dir / "metrics.json").exists()
    best = run_dir / "checkpoints" / "best.ckpt"
    with pytest.raises(InputError, match=r"model\._target_=tests\.factory\.test_trust\.Own: .* add trust=\[tests\]"):
        medseg.load(best, device="cpu")
    assert type(medseg.load(best, device="cpu", trust="tests").network).__name__ == "Own"
