"""No value of the configuration is found to be wrong after a case has been opened."""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
from omegaconf import DictConfig, OmegaConf

from medseg.cli.plan import write
from medseg.data.dataset import Dataset
from medseg.errors import InputError
from medseg.factory.dataset import build_dataset
from medseg.factory.instantiate import instantiate
from medseg.factory.settings import check_parts, check_values
from medseg.factory.transform import build_transform
from medseg.hydra_app.compose import compose
from medseg.hydra_app.conf import conf_dir
from medseg.training.train import train
from tests.tiny import SMALL, write_nnunet

SIGNED = {  # keys of which a negative number is a setting
    "trainer.max_steps", "trainer.max_epochs", "trainer.num_sanity_val_steps", "model.decoder.level",
    "transform.haze.airlight", "trainer.devices",
}  # fmt: skip
SHARES = ("p", "channel_p", "dropout", "overlap", "share", "decay", "momentum", "foreground_fraction", "min_valid",
          "warmup", "final", "least_share", "head_warmup", "gradual_unfreeze", "layer_decay", "focus",
          "anneal")  # fmt: skip
SLOW = [pytest.param(group, marks=pytest.mark.slow) for group in ("loss", "transform", "finetuning", "model")]
GROUPS = ("metric", "optimizer", "scheduler", "inference", "method", "temporal", "trainer", "callback", "sampling")
BARE = ("transform=none", "callback={}", "loss=ce", "metric=overlap", "model=unet_tiny")
DATA = ("phantom_volumes", "phantom_scenes", "phantom_series")


def options(group: str) -> list[str]:
    return [p.stem for p in sorted((conf_dir() / group).glob("*.yaml")) if not p.stem.endswith("_defaults")]


def numbers(node: Any, at: str) -> Iterator[str]:
    """Keys that hold a number."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, f"{at}.{key}")
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield at


@lru_cache
def composed(*overrides: str) -> DictConfig:
    cfg = compose("train", ["data=phantom_volumes", "logger=csv", *overrides])
    cfg.cache_dir = "/nonexistent/cache"
    OmegaConf.resolve(cfg)
    return cfg


@lru_cache
def dataset(name: str) -> Dataset:
    return build_dataset(composed(f"data={name}"))


def check(cfg: DictConfig, source: Dataset) -> None:
    """What ``assemble`` does before it asks for cases."""
    check_values(cfg)
    if cfg.get("finetuning") is not None:
        instantiate(cfg.finetuning)
    for callback in cfg.callback.values():
        instantiate(callback)
    check_parts(cfg, source.spec, build_transform, labelled=True)


@pytest.mark.parametrize("group", [*GROUPS, *SLOW])
def test_absurd_numbers_of_each_option_are_refused(group: str) -> None:
    source = dataset("phantom_volumes")
    taken, seen = [], set()
    for option in options(group):
        cfg = composed(*BARE, f"{group}={option}")
        for key in {*numbers(OmegaConf.to_container(cfg[group]), group)} - seen:
            taken += absurd_and_taken(cfg, key, source)
            seen.add(key)
    assert taken == []


@pytest.mark.parametrize("name", DATA)
def test_absurd_numbers_of_datasets_and_plans_are_refused(name: str) -> None:
    cfg = composed(f"data={name}")
    content: Any = OmegaConf.to_container(cfg)
    top = ["seed", "least_share", "plan.memory_gb"]
    keys = [key for group in ("data", "split", "loader") for key in numbers(content[group], group)] + top
    assert [told for key in keys for told in absurd_and_taken(cfg, key, dataset(name))] == []


def absurd_and_taken(cfg: DictConfig, key: str, source: Dataset) -> Iterator[str]:
    """Absurd values of a key that are taken, or refused without its name."""
    name = key.rpartition(".")[2]
    for value in [*([] if key in SIGNED else [-1]), *([1e9] if name in SHARES else [])]:
        changed = cfg.copy()
        OmegaConf.update(changed, key, value)
        try:
            check(changed, source)
        except InputError as refused:
            if len(str(refused).splitlines()) > 1 or name not in str(refused):
                yield f"{key}={value}: {refused}"
        else:
            yield f"{key}={value} is taken"


@pytest.mark.slow
@pytest.mark.parametrize("group", [*GROUPS, *SLOW, "data"])
def test_no_option_is_refused_as_it_stands(group: str) -> None:
    known = DATA if group == "data" else options(group)
    for option in known:
        cfg = composed(f"{group}={option}", *(["transform=image"] if option in DATA[1:] else []))
        check(cfg, dataset(option if option in DATA else "phantom_volumes"))


@pytest.mark.parametrize(
    "key",
    ["seed", "plan.memory_gb", "loss.terms.dice.smooth", "loss.weights.dice", "transform.rotation.p",
     "transform.elastic.knots", "metric.resamples", "scheduler.warmup", "model.base_features", "callback.ema.decay"],
)  # fmt: skip
@pytest.mark.parametrize("value", [math.nan, "word"])
def test_what_is_no_finite_number_is_refused(key: str, value: Any) -> None:
    cfg = composed().copy()
    OmegaConf.update(cfg, key, value)
    name = key.rpartition(".")[2]
    with pytest.raises(InputError, match=f"{name}=|{name}'"):
        check(cfg, dataset("phantom_volumes"))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No case may be opened."""

    def open(self: Dataset, case: Any) -> NoReturn:
        pytest.fail(f"{case.id} was opened")

    monkeypatch.setattr(Dataset, "open", open)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("metric.metrics=[dice,hausdorf]", "metrics: got hausdorf, expected the name of a metric"),
        ("inference.overlap=1.5", "inference.overlap=1.5: expected a number >= 0 and < 1"),
        ("inference.batch_size=0", "inference.batch_size=0: expected an integer >= 1"),
        ("transform.mirror.p=2", "transform.mirror: got p=2"),
        ("optimizer.lr=-1", "optimizer.lr=-1: expected a number >= 0"),
        ("loss.weights.dice=-1", r"loss: weights \{'dice': -1"),
        ("+loss.weights.dise=1", r"loss: weights \{'dise': 1\}.*among \['dice', 'cross_entropy'\]"),
        ("+loss.terms.mine=1", "loss can't be built"),
        ("+loss.terms.dice.smoth=1", "loss can't be built: .*smoth"),
        ("+optimizer.momentun=1", "optimizer can't be built: .*momentun"),
        ("plan.batch_size=0", "plan.batch_size=0: expected an integer >= 1"),
        ("plan.patch=[16,16]", r"plan.patch=\[16, 16\] has 2 values, the data has 3 axes"),
        ("trainer.max_steps=-5", "trainer.max_steps=-5: expected an integer >= 1, or -1"),
        ("trainer.steps_per_epoch=0", "trainer.steps_per_epoch=0: expected an integer >= 1"),
        ("sampling.min_valid=2", "sampling.min_valid=2: expected a number >= 0 and <= 1, or auto"),
        ("sampling.min_valid=some", "sampling.min_valid=some: expected a number >= 0 and <= 1, or auto"),
        ("model.base_features=0", "base_features=0"),
        ("plan.normalisation=[zscroe]", r"plan.normalisation=\['zscroe'\]: expected one of zscore, ct"),
    ],
)
@pytest.mark.usefixtures("closed")
def test_training_ends_before_a_case_is_opened(override: str, message: str, tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "raw")
    places = [f"data.root={root}", f"cache_dir={tmp_path}/cache", f"run_dir={tmp_path}/run"]
    with pytest.raises(InputError, match=message):
        train(compose("train", [*SMALL, *places, override]))
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


@pytest.mark.usefixtures("closed")
def test_plan_ends_before_a_case_is_opened(tmp_path: Path) -> None:
    root = write_nnunet(tmp_path / "raw")
    places = [f"data.root={root}", f"cache_dir={tmp_path}/cache", f"output={tmp_path}/plan.yaml"]
    with pytest.raises(InputError, match=r"plan\.memory_gb=0: expected a number > 0"):
        write(compose("plan", [*SMALL, *places, "plan.memory_gb=0"]))
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]
