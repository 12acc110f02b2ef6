"""The datamodule of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from medseg.data.case import Case
from medseg.data.datamodule import DataModule
from medseg.data.dataset import Dataset
from medseg.factory.dataset import store_dir
from medseg.factory.transform import build_transform
from medseg.planning.plan import Plan
from medseg.runtime.cpu import cores


def build_datamodule(
    cfg: DictConfig,
    source: Dataset,
    planned: Plan,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    device: str,
    labelled: bool,
) -> DataModule:
    """Patches of the training cases, whole validation cases.

    Args:
        cfg: ``conf/train.yaml``, composed.
        source: The dataset of ``cfg.data``.
        planned: Patch, batch size, preprocessing.
        train_cases: Cases that patches are drawn from.
        val_cases: Cases that are predicted whole.
        device: ``cpu``, ``cuda`` and so on; loader processes by themselves only for ``cuda``.
        labelled: Whether the method reads labels.
    """
    workers = cfg.data.workers
    if workers == "auto":
        workers = min(8, max(1, cores() - 1)) if device == "cuda" else 0
    return DataModule(
        train_cases=train_cases,
        val_cases=val_cases,
        open=source.open,
        reading=source.reading.to_dict(),
        spec=source.spec,
        preprocess=planned.preprocess,
        store=store_dir(cfg, source),
        patch=planned.patch,
        batch_size=planned.batch_size,
        transform=build_transform(cfg, planned, source.spec),
        sampling=sampling_settings(cfg, labelled=labelled),
        steps_per_epoch=cfg.data.steps_per_epoch,
        workers=workers,
        seed=cfg.seed,
        in_store=cfg.data.get("store", True),
    )


def sampling_settings(cfg: DictConfig, *, labelled: bool) -> dict[str, Any]:
    """How patches are drawn, as ``cfg.data`` says; without labels nothing can be preferred."""
    chosen = {key: cfg.data[key] for key in ("foreground_share", "strategy", "min_valid", "rarity")}
    if not labelled:
        chosen |= {
            "labelled": False,
            "foreground_share": 0.0,
            "strategy": "case" if chosen["strategy"] == "class" else chosen["strategy"],
        }
    return chosen
