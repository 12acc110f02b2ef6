"""What is wrong with an encoder or its weights ends the real command with 2 and one line, before a case is read."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file

from medseg.cli.train import main
from medseg.training.train import train

SHORT = (
    "split.n_folds=3", "data.n_test=0", "trainer.steps_per_epoch=1", "plan.batch_size=2", "trainer.max_time=null",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_steps=1", "transform=light", "logger=csv",
    "metric=overlap", "callback={}", "test=false",
)  # fmt: skip
SCENES = ("data=phantom_scenes", "data.n_scenes=3", "data.shape=[64,72]", *SHORT)
VOLUMES = ("data=phantom_volumes", "data.n_cases=3", "data.shape=[32,36,32]", *SHORT)
TINY = ("model=encoder_decoder", "model.encoder.name=test_resnet", "plan.patch=[32,32]")
BANDS = "model.encoder.weights=ResNet50_Weights.SENTINEL1_ALL_MOCO"  # of radar; the scenes are optical


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def of(family: str, *settings: str) -> tuple[str, ...]:
    return ("model=encoder_decoder", f"model/encoder={family}", "plan.patch=[32,32]", *settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of weights, each with something wrong, and the drawn data."""
    folder = tmp_path_factory.mktemp("bad")
    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, folder / "right.safetensors")
    save_file({f"other{i}.thing": torch.randn(3, 3) for i in range(9)}, folder / "names.safetensors")
    save_file({key: state[key] for key in list(state)[: len(state) // 2]}, folder / "half.safetensors")
    save_file({key: torch.zeros([n + 1 for n in t.shape]) for key, t in state.items()}, folder / "shapes.safetensors")
    save_file({}, folder / "empty.safetensors")
    save_file({"encoder.net.conv1.lora_A.default.weight": torch.ones(2, 2)}, folder / "adapters.safetensors")
    torch.save({"state_dict": state, "options": Code()}, folder / "code.pt")
    (folder / "code.pkl").write_bytes(pickle.dumps({"weights": Code()}))
    for name in ("right.safetensors", "code.pt"):
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
    (folder / "hub").mkdir()
    save_file(state, folder / "hub/model.safetensors")
    return folder


Refuse = Callable[..., str]


@pytest.fixture
def refuse(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Run ``medseg-train``; its one line, after it ended with 2, read no case and left nothing."""
    monkeypatch.chdir(tmp_path)

    def run(data: tuple[str, ...], *overrides: str) -> str:
        root = folder / data[0].removeprefix("data=")
        places = [f"data.root={root}", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
        words = ["medseg-train", *data, *places, *(o.replace("DIR", str(folder)) for o in overrides)]
        monkeypatch.setattr("sys.argv", words)
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        *_, line = told = capsys.readouterr().err.splitlines()
        assert [t for t in told if t.startswith("error: ")] == [line]
        assert list(tmp_path.iterdir()) == [], "something was read, prepared, written or executed"
        return line

    return run


@pytest.mark.parametrize(
    "file, told",
    [
        ("names.safetensors", ["names.safetensors: nothing in it fits the encoder: none of its 9 names (other0.thing",
                               "give its own weights, or choose that model.encoder"]),
        ("half.safetensors", ["half.safetensors covers ", "expected at least 90 %; missing: layer",
                              "or accept these by model.encoder.least_share=0.1"]),
        ("shapes.safetensors", ["names agree, but shapes do not, such as conv1.0.weight [17, 4, 4, 4] in the file, "
                                "[16, 6, 3, 3] here", "another size of it"]),
        ("code.pt", [f"code.pt: holds pickled code ({os.name}.mkdir), which medseg never executes; convert it with"]),
        ("code.pkl", ["code.pkl: holds pickled code", "convert it with safetensors"]),
        ("empty.safetensors", ["empty.safetensors: holds nothing at all, expected tensors by name: save"]),
        ("cut_right.safetensors", ["can't be read as safetensors", "cut short or of another kind: fetch it again"]),
        ("cut_code.pt", ["can't be read as tensors", "cut short or of another kind", "fetch it again"]),
        ("rigth.safetensors", ["no such file or folder; the nearest are right.safetensors"]),
        ("nowhere/a.pt", ["no such file or folder; there is ", "but not "]),
        ("adapters.safetensors", ["holds adapters (encoder.net.conv1.lora_A.default.weight), expected plain weights; "
                                  "fold them in, by medseg.finetuning.adapters.merge"]),
    ],
)  # fmt: skip
def test_weights(file: str, told: list[str], refuse: Refuse) -> None:
    line = refuse(SCENES, *TINY, f"model.encoder.weights=DIR/{file}")
    for part in ("model.encoder.weights=", *told):
        assert part in line


@pytest.mark.parametrize("data, model", [(SCENES, TINY), (VOLUMES, ("model=unet", "model.base_features=4"))])
@pytest.mark.parametrize("file, told", [("none.ckpt", "none.ckpt: no such file"), ("code.pt", "holds pickled code")])
def test_weights_of_all_of_a_network(
    data: tuple[str, ...], model: tuple[str, ...], file: str, told: str, refuse: Refuse
) -> None:
    line = refuse(data, *model, f"weights=DIR/{file}")
    assert line.startswith("error: weights=")
    assert told in line


def test_weights_of_another_network(refuse: Refuse) -> None:
    line = refuse(SCENES, *TINY, "weights=DIR/names.safetensors")
    assert "names.safetensors: nothing in it fits the network: " in line
    assert "model.encoder" not in line


@pytest.mark.parametrize(
    "data, model, told",
    [
        (SCENES, (*TINY, "plan.patch=[16,16]"), "too deep for the patch: its coarsest feature has cells of (32, 32), "
         "the patch is (16, 16); set plan.patch=[32,32] or larger, or take fewer of its features"),
        (VOLUMES, of("monai_swin_vit", "plan.patch=[16,16,16]"), "set plan.patch=[32,32,32] or larger"),
        (SCENES, (*TINY, "model.encoder.name=resnet5O"), "is no network of timm; the nearest are resnet50, "),
        (SCENES, (*TINY, "model.encoder.name=resnet50.mine"), "no weights tagged mine; there are resnet50.a1_in1k"),
        (SCENES, (*TINY, "+model.encoder.size=b"), "model.encoder.size is no setting of medseg.models.timm.encoder.T"),
        (VOLUMES, of("inflated", "model.encoder.of.name=resnet5O", "plan.patch=null"), "encoder.of.name=resnet5O"),
        (VOLUMES, of("sliced", "model.encoder.of.name=resnet5O", "plan.patch=null"), "encoder.of.name=resnet5O"),
        (VOLUMES, of("timm", "plan.patch=null"), "takes images of 2 spatial axes, the data has 3; choose"),
        (VOLUMES, of("monai_resnet", "model.encoder.depth=51", "plan.patch=null"), "depth=51: expected one of 10, 18"),
        (SCENES, of("torchgeo", "model.encoder.name=resnet19"), "no network of torchgeo; the nearest are resnet18, "),
        (SCENES, of("torchgeo", "model.encoder.weights=ResNet18_Weights.SENTINEL2_ALL_MOCA"), "is no weight of "
         "torchgeo; the nearest are ResNet18_Weights.SENTINEL2_ALL_MOCO"),
        (SCENES, of("torchgeo", BANDS, "model.encoder.file=DIR/none.pth"), "model.encoder.file="),
        (SCENES, of("torchgeo", BANDS, "model.encoder.adapt=name", "model.encoder.file=DIR/r50.safetensors"),
         "adapt=name needs a name in common: the data has B2, B3"),
        (SCENES, of("transformers", "model.encoder.family=dinov5"), "family=dinov5 is unknown; the near"),
        (SCENES, of("transformers", "model.encoder.family=dinov2", "model.encoder.size=bass"), "small, base, large"),
        (SCENES, of("transformers", "model.encoder.weights=DIR/hub"), "this folder has no config.json, which tells "
         "the architecture; add it, or say model.encoder.family and model.encoder.size"),
        *((SCENES, of(family, "model.encoder.size=bass"), "size=bass: expected one of ")
          for family in ("dofa", "panopticon", "scalemae", "croma", "copernicus_fm", "olmoearth", "galileo", "satmae",
                         "spectralgpt")),
        (SCENES, of("olmoearth", "data.channels=[B2,B3]", "model.encoder.patch=9"), "patch=9: expected 1 to 8 cells"),
        (SCENES, ("model=smp_unet", "model.encoder=resnet35"), "is no encoder of smp; the nearest are resnet"),
        (SCENES, ("model=smp_unet", "model.encoder=tu-resnet5O"), "no network of timm; the nearest are tu-resnet50"),
        (VOLUMES, ("model=smp_unet",), "the data has 3; choose a network for volumes: model=genesis_unet, mednext, "),
        (SCENES, ("model=hf_segformer", "model.size=b9"), "size=b9: expected a size of segformer, b0, b1"),
        (SCENES, of("dofaa"), "model/encoder=dofaa is no option; did you mean dofa?"),
        (SCENES, (*TINY, "model/decoder=unett"), "model/decoder=unett is no option; did you mean unet"),
        (SCENES, (*TINY, "model/decoder=smp", "model.decoder.architecture=FPM"), "is unknown; the nearest are FPN"),
        (SCENES, (*TINY, "finetuning=lora", "finetuning.targets=[attention]"),
         "no such layer in Timm; it has ['convolution']"),
        (SCENES, (*TINY, "finetuning=svfit", "finetuning.targets=[mlp]"),
         "no such layer in Timm; it has ['convolution']"),
        (SCENES, (*TINY, "finetuning=nola", "finetuning.targets=[mlp]"),
         "no such layer in Timm; it has ['convolution']"),
        (SCENES, (*TINY, "finetuning=sam_adapter"), "finetuning=sam_adapter is for plain transformers"),
        (SCENES, (*TINY, "finetuning=linear_probe", "model/decoder=unet"), "set model/decoder=linear"),
        (SCENES, ("model=smp_unet", "plan.patch=[64,64]", "finetuning=side_tuning"),
         "take model=encoder_decoder, or finetuning=full or lora"),
    ],
)  # fmt: skip
def test_settings(data: tuple[str, ...], model: tuple[str, ...], told: str, refuse: Refuse, folder: Path) -> None:
    if any("r50" in word for word in model) and not (folder / "r50.safetensors").exists():
        save_file(timm.create_model("resnet50", in_chans=2).state_dict(), folder / "r50.safetensors")
    assert told in refuse(data, *model)


@pytest.mark.parametrize(
    "data, model, way",
    [
        (SCENES, (*TINY, "model.encoder.weights=pretrained"), "model.encoder.weights=FILE"),
        (SCENES, (*TINY, "model.encoder.weights=hf-hub:owner/name"), "model.encoder.weights=FILE"),
        (SCENES, of("torchgeo", BANDS), "model.encoder.file=PATH"),
        (SCENES, of("dofa", "model.encoder.weights=pretrained"), "model.encoder.weights=FILE"),
        (SCENES, of("transformers", "model.encoder.weights=hf-hub:owner/name"), "its whole folder, with config.json"),
        (SCENES, ("model=hf_segformer", "model.weights=hf-hub:owner/name"), "model.weights=FILE"),
        (VOLUMES, of("monai_swin_vit", "model.encoder.weights=pretrained", "plan.patch=[32,32,32]"), "weights=FILE"),
        (VOLUMES, of("monai_resnet", "model.encoder.weights=pretrained", "plan.patch=[32,32,32]"), "weights=FILE"),
    ],
)
def test_without_a_network(
    data: tuple[str, ...],
    model: tuple[str, ...],
    way: str,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> None:
    """Nobody answers, and nobody waits for them."""

    def wait(seconds: float) -> None:
        raise AssertionError(f"waits for {seconds} s")

    def closed(*_: Any, **__: Any) -> Any:
        raise OSError("name not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("torch.hub.urlopen", closed)
    monkeypatch.setattr("torch.hub._hub_dir", str(folder / "torch"))
    monkeypatch.setattr("time.sleep", wait)
    line = refuse(data, *model)
    assert "can't be reached" in line or "can't be downloaded" in line
    assert way in line


def test_a_network_without_weights_of_its_own(refuse: Refuse) -> None:
    line = refuse(SCENES, *of("transformers", "model.encoder.weights=pretrained"))
    assert "this network has no weights of its own to download; give a file, or hf-hub:owner/name" in line


def test_adapters_become_weights_as_the_message_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    import medseg
    from medseg.finetuning import adapters
    from medseg.hydra_app.compose import compose

    own = [f"data.root={folder}/phantom_scenes", f"cache_dir={folder}/cache"]
    cfg = compose("train", [*SCENES, *TINY, *own, f"run_dir={folder}/lora", "finetuning=lora"])
    best = train(cfg) / "checkpoints/best.ckpt"
    assert "holds adapters (" in refuse(SCENES, *TINY, f"model.encoder.weights={best}")
    merged = adapters.merge(medseg.load(best, device="cpu").network)
    save_file(merged.state_dict(), folder / "merged.safetensors")
    given = compose("train", [*SCENES, *TINY, *own, f"run_dir={folder}/next", f"weights={folder}/merged.safetensors"])
    assert "100 % of" in (train(given) / "weights.txt").read_text(encoding="utf-8").splitlines()[0]
    assert load_file(folder / "merged.safetensors").keys() == merged.state_dict().keys()
