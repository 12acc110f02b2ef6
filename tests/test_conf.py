"""Every option of every group builds and takes a training step; found by walking conf/, so that none is forgotten."""

import csv
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from medseg.factory.axes import ndims_of
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.training.train import train
from tests.image_layouts import PUBLISHED_IMAGES
from tests.parts import joined
from tests.small import FOLDER, small
from tests.tiny import LABELS, write_nnunet, write_planar
from tests.torchgeo_layouts import TORCHGEO
from tests.volume_layouts import PUBLISHED_VOLUMES

CONF = conf_dir()
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
ELSEWHERE = (
    "experiment/",
    "sweep/",
    "loss/",
)  # experiments below, test_sweep.py, losses/test_invariants.py; a loss trains too if it has a file in tests/conf
OPTIONS = [
    name for name in FILES if "/" in name and (not name.startswith(ELSEWHERE) or (FOLDER / f"{name}.yaml").is_file())
]
EXPERIMENTS = [name.partition("/")[2] for name in FILES if name.startswith("experiment/")]
GROUPS = {key for entry in OmegaConf.load(CONF / "train.yaml").defaults if OmegaConf.is_dict(entry) for key in entry}
PROMISED = (
    "phantom", "hippocampus", "burned_area", "dubai", "retina", "nuclei", "membranes", "floods", "sen1floods11",
    "brats", "msd03_liver", "loveda",
)  # fmt: skip
"""Experiments that take a step in every run of the tests, among them one of each layout; the others in slow runs."""
BY_DAY = ("model/unet", "model/encoder_decoder", "model/smp_unet", "model/encoder/timm", "model/encoder/joined")
"""Networks that do; the others are built, trained and compared in tests/models."""
# what options include, no options themselves
SHARED = [name for name in OPTIONS if name.endswith("_defaults")]
ONE_STEP = [
    "split.n_folds=3", "trainer.steps_per_epoch=1", "plan.batch_size=2", "trainer.max_steps=1",
    "trainer.max_time=null", "trainer.accelerator=cpu", "trainer.precision=32-true",
]  # fmt: skip


def nnunet(root: Path) -> list[str]:
    return [f"data.root={write_nnunet(root, n_cases=3)}"]


def msd(root: Path) -> list[str]:
    write_nnunet(root, n_cases=3)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    files = [{"image": f"./imagesTr/c{n}.nii.gz", "label": f"./labelsTr/c{n}.nii.gz"} for n in range(3)]
    labels = {str(value): name for name, value in LABELS.items()}
    declared = {"modality": {"0": "MRI"}, "labels": labels, "training": files, "test": []}
    (root / "dataset.json").write_text(json.dumps(declared))
    return [f"data.root={root}"]


def volumes(root: Path) -> list[str]:
    write_nnunet(root, n_cases=3)
    labels = ",".join(f"{name}:{value}" for name, value in LABELS.items())
    folders = ["data.images=imagesTr", "data.label_folder=labelsTr", "data.channels=[MR]"]
    return [f"data.root={root}", *folders, f"data.labels={{{labels}}}"]


def phantom_volumes(root: Path) -> list[str]:
    return [f"data.root={root}", "data.n_cases=3", "data.n_test=0", "data.shape=[20,22,18]"]


def phantom_scenes(root: Path) -> list[str]:
    return [f"data.root={root}", "data.n_scenes=3", "split.n_folds=3", "data.n_test=0", "data.shape=[64,72]"]


def phantom_series(root: Path) -> list[str]:
    return [f"data.root={root}", "data.n_scenes=3", "split.n_folds=3", "data.n_test=0", "data.shape=[40,40]"]


def planar(option: str) -> Callable[[Path], list[str]]:
    def write(root: Path) -> list[str]:
        own = ["data.labels={background: 0, road: 1, ignore: 9}", f"data.channels=[{BANDS[option]}]"]
        cfg = compose("train", [f"data={option}", f"data.root={root}", *own])
        return [f"data.root={write_planar(root, cfg)}", *own]

    return write


BANDS = {"rasters": "B4,B8,{NDVI: '(B8-B4)/(B8+B4)'}", "images": "R,G,B"}
LAYOUTS: dict[str, Callable[[Path], list[str]]] = (
    {f.__name__: f for f in (nnunet, msd, volumes, joined, phantom_volumes, phantom_scenes, phantom_series)}
    | {option: planar(option) for option in BANDS}
    | TORCHGEO
)
"""By option of data: what writes a tiny dataset in its layout, and gives the overrides that point to it."""
PUBLISHED = PUBLISHED_VOLUMES | PUBLISHED_IMAGES
"""The same by experiment, for those of a published dataset whose layout is not the option's own."""

PLANAR = [*BANDS, "phantom_scenes", "phantom_series", *TORCHGEO]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conf")


def tiny_data(cache: Path, option: str, experiment: str | None = None) -> list[str]:
    """Overrides for ``data=option``; its files are written once, those of an experiment as it needs them."""
    name = f"{option}-{experiment}".replace("/", "-")
    told = cache / f"{name}.json"
    if not told.exists():
        root = cache / "raw" / name
        if experiment in PUBLISHED:
            overrides = PUBLISHED[experiment](root)
        elif experiment and option in ("rasters", "images"):
            cfg = compose("train", [f"experiment={experiment}", f"data.root={root}"])
            overrides = [f"data.root={write_planar(root, cfg)}"]
        else:
            overrides = LAYOUTS[option](root)
        told.write_text(json.dumps(overrides))
    return json.loads(told.read_text(encoding="utf-8"))


def _assignments(key: str, value: Any) -> Iterator[str]:
    """Words that set a value, inner settings one by one but for ``config``, which is open to any name."""
    if isinstance(value, dict) and not key.endswith((".config", ".settings")):
        for name, inner in value.items():
            yield from _assignments(f"{key}.{name}", inner)
    else:
        yield f"{key}={value}"


def tiny_model(option: str, chosen: dict[str, str]) -> list[str]:
    """Overrides for a small network, encoder and decoder; Hydra's mappings have keys without quotes."""
    settings = dict(small("model", option)["settings"])
    for kind in ("encoder", "decoder") if "model/encoder" in chosen else ():
        settings[kind] = small(f"model/{kind}", chosen[f"model/{kind}"])["settings"]
    words = (word for key, value in settings.items() for word in _assignments(f"model.{key}", value))
    overrides = (word.replace(" ", "") for word in words)
    return [re.sub(r"'(\w+)':", r"\1:", override) for override in overrides]


def take_a_step(
    cache: Path, run_dir: Path, overrides: list[str], *, chosen: dict[str, str], test: bool = False,
    experiment: str | None = None, own: Sequence[str] = (),
) -> None:  # fmt: skip
    """Train for one step; the loss that was logged is a number."""
    data = chosen["data"]
    patch = "plan.patch=[32,32]" if data in PLANAR else "plan.patch=[16,16,16]"
    small = [*tiny_data(cache, data, experiment), *tiny_model(chosen["model"], chosen)]
    shrunk = [*small, patch, *ONE_STEP, f"test={str(test).lower()}", *own]
    train(compose("train", [*overrides, *shrunk, f"cache_dir={cache}/cache", f"run_dir={run_dir}"]))
    assert (run_dir / "checkpoints/best.ckpt").exists()
    with (run_dir / "metrics.csv").open() as stream:
        losses = [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]
    assert len(losses) == 1
    assert math.isfinite(losses[0])


def _often(name: str) -> bool:
    """Whether an option or an experiment takes a step in every run of the tests."""
    return (
        name in PROMISED
        or name in BY_DAY
        or ("/" in name and name.rpartition("/")[0] not in ("model", "model/encoder", "regimes"))
    )


def _marked(names: Sequence[str]) -> list[Any]:
    return [pytest.param(name, marks=[] if _often(name) else [pytest.mark.slow]) for name in names]


@pytest.mark.parametrize("name", _marked([name for name in OPTIONS if name not in SHARED]))
def test_option_takes_a_training_step(name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, _, option = name.rpartition("/")
    if package := small(group, option)["package"]:
        pytest.importorskip(package)
        warnings.simplefilter("ignore", DeprecationWarning)  # of MLflow's database, within this test
    chosen = {"data": "nnunet", "model": "unet", "logger": "csv", "metric": "overlap", "transform": "light"}
    chosen |= {group: f"[cross_entropy,{option}]" if group == "loss/term" else option}
    if group.startswith("model/"):
        chosen |= {"model": "encoder_decoder", "data": "phantom_scenes" if 2 in ndims_of(group, option) else "nnunet"}
        chosen = {"model/encoder": "timm", "model/decoder": "linear"} | chosen
    if (group == "model" and 3 not in ndims_of(group, option)) or option == "scene":
        chosen["data"] = "phantom_scenes"
    chosen |= small(group, option)["options"]
    if group == "temporal":
        chosen["data"] = "phantom_series"
    if group in ("finetuning", "method") and option not in ("full", "supervised", "mae"):
        chosen |= {
            "model": "encoder_decoder",
            "model/encoder": "timm",
            "model/decoder": "linear",
            "data": "phantom_scenes",
        }
    overrides = [f"{'' if key.partition('/')[0] in GROUPS else '+'}{key}={value}" for key, value in chosen.items()]
    judged = group in ("metric", "inference")
    own = list(small(group, option)["overrides"])
    if small(group, option)["teacher"]:
        supervised = [word for word in overrides if not word.startswith("method=")]
        take_a_step(cache, tmp_path / "teacher", supervised, chosen=chosen)
        own.append(f"method.teacher={tmp_path}/teacher")
    take_a_step(cache, tmp_path / "run", overrides, chosen=chosen, test=judged, own=own)


def chosen_by(experiment: str) -> dict[str, str]:
    """Options that an experiment chooses, by itself or by the experiment that it builds on."""
    chosen: dict[str, str] = {}
    for entry in OmegaConf.load(CONF / f"experiment/{experiment}.yaml").defaults:
        if isinstance(entry, str):
            chosen |= chosen_by(entry.removeprefix("/experiment/")) if entry != "_self_" else {}
        else:
            chosen |= {str(key).removeprefix("override /"): value for key, value in entry.items()}
    return chosen


@pytest.mark.parametrize("name", _marked(EXPERIMENTS))
def test_experiment_takes_a_training_step(name: str, cache: Path, tmp_path: Path) -> None:
    chosen = {"data": "phantom_volumes", "model": "unet"} | chosen_by(name)
    overrides = [f"experiment={name}", "logger=csv"]
    if compose("train", [f"experiment={name}", "++data.root=x"]).split.n_labelled:
        overrides.append("split.n_labelled=1")
    take_a_step(cache, tmp_path / "run", overrides, chosen=chosen, experiment=name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_takes_another_network(name: str) -> None:
    encoder = ["model=encoder_decoder", "model/encoder=timm", "model.encoder.name=resnet18"]
    assert compose("train", [f"experiment={name}", "++data.root=x", *encoder]).model.encoder.name == "resnet18"


@pytest.mark.parametrize("name", SHARED)
def test_shared_keys_belong_to_some_option(name: str) -> None:
    group, _, shared = name.rpartition("/")
    assert any(shared in OmegaConf.load(path).get("defaults", []) for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("name", FILES)
def test_file_begins_by_describing_itself(name: str) -> None:
    first, second, *_ = (CONF / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    described = second if first.startswith("# @package") else first
    assert described.startswith("# ")
    assert 20 <= len(described) <= 125


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_begins_with_its_command(name: str) -> None:
    header = [
        line
        for line in (CONF / f"experiment/{name}.yaml").read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    ]
    assert any(f"medseg-train experiment={name}" in line for line in header)


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in name])
def test_command_composes_and_names_its_keys_in_its_help(name: str) -> None:
    cfg: Any = compose(name, [])
    assert len(cfg) > 0
    template = OmegaConf.load(CONF / f"{name}.yaml").hydra.help.template
    assert template.startswith(f"medseg-{name}: ")
    assert "$CONFIG" in template
