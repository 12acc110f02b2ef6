"""Run folders of untrained networks, as a selection reads them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from medseg import checkpoint
from medseg.hydra_app.compose import compose
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from tests.tiny import write_planar
from tests.tiny_checkpoint import PLAN, SPEC

WORDS = (
    "data=rasters", "data.images=images", "data.masks=masks", "data.channels=[R,G]", "transform=light",
    "data.labels={background:0,a:1,b:2}", "model.base_features=2", "trainer.precision=32-true", "inference.flips=false",
)  # fmt: skip
CASES = [f"case_{i}" for i in range(6)]


def write_data(root: Path, *, n_cases: int = 6) -> Path:
    return write_planar(root, compose("train", [*WORDS, f"data.root={root}"]), n_cases=n_cases, shape=(8, 12))


@cache
def _composed(words: tuple[str, ...]) -> DictConfig:
    return compose("train", [*WORDS, "data.root=data", *words])


def write_run(
    folder: Path, root: Path, *, fold: int, val: Sequence[str], train: Sequence[str], seed: int = 0, spec: Any = SPEC,
    files: dict[str, str] | None = None, words: Sequence[str] = (),
) -> Path:  # fmt: skip
    """A run whose network has random weights of a seed."""
    cfg = _composed(tuple(words)).copy()
    cfg.data.root, cfg.split.fold, cfg.run_dir, cfg.cache_dir = str(root), fold, str(folder), "cache"
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ModelSpec(2, spec.labels.n_outputs, PLAN.patch, PLAN.spacing, PLAN.kernels, PLAN.strides, spec.channels)
        net = UNet(model, base_features=2)
    metadata = checkpoint.RunMetadata.of_new_run(config, spec, PLAN, cases={"train": list(train), "val": list(val)})
    metadata = metadata.with_data({"files": files or {}})
    (folder / "checkpoints").mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml")
    state = {f"network.{key}": value for key, value in net.state_dict().items()}
    checkpoint.save({"state_dict": state, "medseg": metadata.to_dict()}, folder / "checkpoints/best.ckpt")
    return folder


def write_folds(folder: Path, root: Path, *, seed: int = 0, **settings: Any) -> Path:
    """A cross-validation of three folds, whose networks all differ."""
    for fold in range(3):
        val = CASES[2 * fold : 2 * fold + 2]
        train = [case for case in CASES if case not in val]
        write_run(folder / str(fold), root, fold=fold, val=val, train=train, seed=10 * seed + fold, **settings)
    return folder
