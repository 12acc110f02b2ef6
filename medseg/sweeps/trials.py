"""The trials of a search: each is a training of its own, and reports the score that chose its checkpoint."""

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
    """Run the trials of ``cfg.sweep``, each a training of its own.

    Args:
        cfg: As ``overrides`` compose it.
        overrides: Of the command; what is swept comes on top.

    Returns:
        ``best.yaml`` in the folder of the sweep.

    Raises:
        InputError: See ``Sweep``; or what does not go together with one.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import get_class

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError("sweep= is a sweep by itself; leave out -m, or leave out sweep=")
    for key in ("run_dir", "ckpt_path"):
        if any(word.partition("=")[0] == key for word in overrides):
            raise InputError(
                f"{key} is that of each trial; leave it out (sweep.folder is where a sweep lies and goes on)"
            )
    if str(cfg.trainer.devices) not in ("1", "[0]") or cfg.trainer.get("strategy", "auto") != "auto":
        raise InputError(f"a sweep trains on one device at a time, got trainer.devices={cfg.trainer.devices}; choose 1")
    shared = [word for word in overrides if word.lstrip("+~").split("=")[0].split(".")[0] != "sweep"]
    settings: Any = OmegaConf.to_container(cfg.sweep, resolve=True)
    made = get_class(settings.pop("_target_"))(**settings)
    made.check(shared)
    from medseg.factory.trainer import monitored

    key, mode = monitored(cfg, get_class(cfg.method._target_))
    best: Path = made.search(shared, partial(_trial, key=key, mode=mode), key=key, mode=mode, seed=cfg.seed)
    return best


def _trial(overrides: Sequence[str], tell: Callable[[int, float], None], *, key: str, mode: str) -> float:
    """Train; the score by which the checkpoint was chosen, which is the last one with ``judged=last``."""
    from medseg.callbacks.reports import Reports

    cfg = compose("train", [*overrides, "test=false"])
    cfg.monitor = key  # whatever the trial changes, its score is that of the others
    reports = Reports(key, tell)
    run_dir = train(cfg, [reports])
    if reports.interrupted:
        raise KeyboardInterrupt
    with (run_dir / "metrics.csv").open(encoding="utf-8") as stream:
        scores = [float(row[key]) for row in csv.DictReader(stream) if row.get(key)]
    scores = [score for score in scores if score == score]
    if not scores:
        raise InputError(f"{run_dir}/metrics.csv has no {key}; is there a validation within the budget?")
    return scores[-1] if cfg.judged == "last" else max(scores) if mode == "max" else min(scores)
