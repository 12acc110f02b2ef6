"""Trainers: Lightning's, with the loggers, checkpoints and callbacks of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from medseg import checkpoint
from medseg.callbacks.metrics_file import MetricsFile
from medseg.callbacks.resumable import Resumable
from medseg.errors import BadInput
from medseg.instances import instantiate


def loggers(cfg: DictConfig, run_dir: Path) -> list[Logger]:
    """``metrics.csv``, and the loggers of ``cfg.logger``.

    Raises:
        BadInput: A logger that needs what is not there.
    """
    for key, entry in cfg.logger.items():
        if not (entry is None or (OmegaConf.is_dict(entry) and "_target_" in entry)):
            raise BadInput(f"logger.{key}={entry}: expected a logger by its name, such as logger=[wandb,tensorboard]")
    return [MetricsFile(run_dir), *(instantiate(entry) for entry in cfg.logger.values() if entry is not None)]


def trainer(
    cfg: DictConfig,
    run_dir: Path,
    precision: str,
    device: str,
    monitor: tuple[str, str],
    watching: Sequence[Logger],
) -> Trainer:
    """The Lightning trainer, with checkpoints (the best by ``monitor``), loggers and the configured callbacks."""
    folder = run_dir / "checkpoints"
    settled: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    key, mode = monitor
    best = ModelCheckpoint(filename="best", monitor=key, mode=mode, save_on_train_epoch_end=False, **settled)
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **settled)
    within = Resumable(folder / "last.ckpt", cfg.checkpoint_minutes)
    callbacks = [instantiate(c) for c in cfg.callbacks.values() if c is not None]
    settings = {k: v for k, v in cfg.trainer.items() if k not in ("accelerator", "precision")}
    settings["log_every_n_steps"] = min(cfg.trainer.log_every_n_steps, cfg.data.steps_per_epoch)
    make = instantiate(settings, _partial_=True)
    try:
        made: Trainer = make(
            accelerator="gpu" if device == "cuda" else cfg.trainer.accelerator,
            precision=precision,
            callbacks=[*callbacks, best, last, within],  # after the averaging of weights, which they are to save
            logger=list(watching),
            plugins=[checkpoint.AtomicCheckpointIO()],
            default_root_dir=str(run_dir),
            use_distributed_sampler=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError) as error:
        raise BadInput(f"trainer can't be built: {error}; check the keys under trainer") from error
    return made
