"""A checkpoint of a tiny network, written as a training writes it, and changed as a stranger might."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from medseg import checkpoint
from medseg.data.preprocessing.normalise import Normalisation
from medseg.hydra_app.compose import compose
from medseg.labels import LabelTable
from medseg.models.network import ModelSpec
from medseg.models.unet import UNet
from medseg.planning.plan import Plan
from medseg.sample import Channel, DataSpec

SPEC = DataSpec((Channel("R"), Channel("G", "", 550.0)), LabelTable.declare({"background": 0, "a": 1, "b": 2}), 2)
PLAN = Plan(
    (1.0, 1.0), (8, 8), 2, ((3, 3), (3, 3)), ((1, 1), (2, 2)),
    (Normalisation("zscore"), Normalisation("standard", 1.0, 2.0)), masked=False, native=True, reasons={"patch": "set"},
)  # fmt: skip


def contents() -> dict[str, Any]:
    """What Lightning would be given to save: weights, and all that prediction needs."""
    words = [
        "data=images",
        "data.root=.",
        "data.channels=[R,G]",
        "data.labels={background:0,a:1,b:2}",
        "transform=light",
    ]
    cfg = compose("train", [*words, "data.images=images", "data.masks=masks", "model.base_features=2"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = ModelSpec(2, 3, PLAN.patch, PLAN.spacing, PLAN.kernels, PLAN.strides, SPEC.channels)
        net = UNet(spec, base_features=2)
    cfg.trainer.precision = "32-true"
    plain: Any = OmegaConf.to_container(_without_run(cfg), resolve=True)
    return {"state_dict": {f"network.{k}": v for k, v in net.state_dict().items()}, "medseg": metadata(plain).to_dict()}


def volume_contents(channels: Sequence[str] = ("MR",)) -> dict[str, Any]:
    """As ``contents``, of volumes that are predicted on their own cells, with the values 0, 1 and 5."""
    spec = DataSpec(tuple(map(Channel, channels)), LabelTable.declare({"background": 0, "liver": 1, "left lung": 5}), 3)
    plan = Plan(
        (1.0, 1.0, 1.0), (32, 32, 8), 2, ((3, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2)),
        (Normalisation("zscore"),) * len(channels), masked=False, native=True, reasons={},
    )  # fmt: skip
    labels = "data.labels={background:0,liver:1,left lung:5}"
    words = ["data=volumes", "data.root=.", f"data.channels=[{','.join(channels)}]", labels, "model.base_features=2"]
    cfg = compose("train", words)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = UNet(
            ModelSpec(len(channels), 3, plan.patch, (1.0, 1.0, 1.0), plan.kernels, plan.strides, spec.channels),
            base_features=2,
        )
    cfg.trainer.precision = "32-true"
    plain: Any = OmegaConf.to_container(_without_run(cfg), resolve=True)
    stored = checkpoint.RunMetadata.of_new_run(plain, spec, plan, cases={"train": ["x"]})
    return {"state_dict": {f"network.{k}": v for k, v in net.state_dict().items()}, "medseg": stored.to_dict()}


def metadata(config: Mapping[str, Any] | None = None) -> checkpoint.RunMetadata:
    """Metadata of a run of that network; of an empty configuration unless one is given."""
    return checkpoint.RunMetadata.of_new_run(config or {}, SPEC, PLAN, cases={"train": ["x"]})


def _without_run(cfg: Any) -> Any:
    cfg.run_dir = cfg.cache_dir = "runs"
    return cfg


def write(path: Path, held: dict[str, Any], change: Callable[[dict[str, Any]], Any] = lambda held: None) -> Path:
    """Write a copy of ``contents``, changed, with checksums that fit."""
    held = copy.deepcopy(held)
    change(held)
    checkpoint.save(held, path)
    return path
