"""The trials of a search: each is a training, and reports the score that selected its checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.hydra_app.compose import compose
from medseg.training.train import train


def sweep(cfg: DictConfig, overrides: Sequence[str]) -> Path:
    """Run the trials of ``cfg.sweep``, each of them a training.

    Args:
        cfg: As ``overrides`` compose it.
        overrides: Words of the command; the swept settings are added to them.

    Returns:
        ``best.yaml`` in the folder of the sweep.

    Raises:
        InputError: See ``Sweep``; or what does not go together with one.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import get_class

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("sweep= runs a sweep by itself; leave out -m, or leave out sweep=")
    for key in ("run_dir", "ckpt_path"):
        if any(word.partition("=")[0] == key for word in overrides):
            raise InputError(f"{key}: each trial has its own; leave it out (sweep.folder is the folder of the sweep)")
    if str(cfg.trainer.devices) not in ("1", "[0]") or cfg.trainer.get("strategy", "auto") != "auto":
        raise InputError(f"a sweep trains on one device at a time, got trainer.devices={cfg.trainer.devices}; choose 1")
    shared = [word for word in overrides if word.lstrip("+~").split("=")[0].split(".")[0] != "sweep"]
    settings: Any = OmegaConf.to_container(cfg.sweep, resolve=True)
    search = get_class(settings.pop("_target_"))(**settings)
    search.check(shared)
    from medseg.factory.trainer import monitored

    key, mode = monitored(cfg, get_class(cfg.method._target_))
    best: Path = search.search(shared, partial(_trial, key=key, mode=mode), key=key, mode=mode, seed=cfg.seed)
    return best


def _trial(overrides: Sequence[str], on_score: Callable[[int, float], None], *, key: str, mode: str) -> float:
    """Train; the score that selected the checkpoint, or the last score with ``judged=last``."""
    from medseg.callbacks.reports import ReportScore

    cfg = compose("train", [*overrides, "test=false"])
    cfg.monitor = key  # all trials are compared by the same score
    reports = ReportScore(key, on_score)
    run_dir = train(cfg, [reports])
    if reports.interrupted:
        raise KeyboardInterrupt
    with (run_dir / "metrics.csv").open(encoding="utf-8") as stream:
        scores = [float(row[key]) for row in csv.DictReader(stream) if row.get(key)]
    scores = [score for score in scores if score == score]
    if not scores:
        raise InputError(f"{run_dir}/metrics.csv has no {key}; is there a validation within the budget?")
    return scores[-1] if cfg.judged == "last" else max(scores) if mode == "max" else min(scores)
