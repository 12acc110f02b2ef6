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

from medseg.callbacks.early_stopping import EarlyStop
from medseg.callbacks.finite import FiniteCheck
from medseg.callbacks.resumable import Resumable
from medseg.errors import InputError
from medseg.factory.checkpoint_io import AtomicCheckpointIO
from medseg.factory.instantiate import instantiate
from medseg.labels import LabelTable
from medseg.loggers.csv_file import MetricsFile
from medseg.methods.method import Method
from medseg.metrics import validation
from medseg.metrics.case_labels import CASE_SCORES


def loggers(cfg: DictConfig, run_dir: Path) -> list[Logger]:
    """``metrics.csv``, and the loggers of ``cfg.logger``.

    Raises:
        InputError: A logger that needs what is not there.
    """
    for key, entry in cfg.logger.items():
        if not (entry is None or (OmegaConf.is_dict(entry) and "_target_" in entry)):
            raise InputError(f"logger.{key}={entry}: expected a logger by its name, such as logger=[wandb,tensorboard]")
    return [MetricsFile(run_dir), *(instantiate(entry) for entry in cfg.logger.values() if entry is not None)]


def monitored(cfg: DictConfig, method: type[Method], labels: LabelTable | None = None) -> tuple[str, str]:
    """Logged key by which the best checkpoint is chosen, and whether ``max`` or ``min`` is best.

    That of ``cfg.monitor``; null takes ``val/miou`` where scores are pooled (``metric=scene``), else the method's.

    Args:
        cfg: The configuration.
        method: Class of ``cfg.method``.
        labels: The label table, if it is known already; without it, keys of single classes are not checked.

    Raises:
        InputError: No validation logs the key.
    """
    valid = _logged(cfg, method, labels)
    if cfg.monitor is None:
        return ("val/miou", "max") if "val/miou" in valid else method.monitor
    key = str(cfg.monitor)
    metric, _, of_class = key.removeprefix("val/").partition("/")
    scored = "val/dice" in valid and metric in validation.class_metrics(pooled=_pooled(cfg))
    if key not in valid and not (labels is None and of_class and scored):
        raise InputError(f"monitor={key}: no validation logs it; expected one of {', '.join(valid)}, or null")
    return key, method.monitor[1] if key == method.monitor[0] else "min" if key == "val/loss" else "max"


def _pooled(cfg: DictConfig) -> bool:
    """Whether scores are those of the cells of all cases together."""
    return bool(cfg.metric.get("pooled", False))


def _logged(cfg: DictConfig, method: type[Method], labels: LabelTable | None) -> list[str]:
    """Keys that a validation logs; without a label table, no scores of single classes of cells."""
    pooled = _pooled(cfg)
    if labels is None:
        names = validation.whole_case_names(pooled=pooled)
    else:
        names = validation.validation_names(labels, pooled=pooled)
    if cfg.data.get("case_label") is not None:
        names = (*names, *(f"case_{name}" for name in CASE_SCORES))
    return [key for key in method.monitors(names) if key != "val/loss" or cfg.method.get("val_patches", 1)]


def early_stop(cfg: DictConfig, monitor: tuple[str, str]) -> list[EarlyStop]:
    """The callback of ``cfg.early_stopping``; none where its patience is null.

    Raises:
        InputError: Settings out of range, or a training that validates on its own training cases.
    """
    settings = cfg.early_stopping
    if settings.patience is None:
        return []
    if str(cfg.split.fold) == "all" and not cfg.split.val_cases:
        raise InputError(
            f"early_stopping.patience={settings.patience} with split.fold=all, which validates on the training cases; "
            "choose a fold, or early_stopping.patience=null"
        )
    key, mode = monitor
    return [EarlyStop(monitor=key, mode=mode, patience=settings.patience, min_delta=settings.min_delta)]


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
    callbacks = [instantiate(c) for c in cfg.callback.values() if c is not None]
    callbacks += [FiniteCheck(), *early_stop(cfg, monitor)]
    settings = {k: v for k, v in cfg.trainer.items() if k not in ("accelerator", "precision", "steps_per_epoch")}
    settings["log_every_n_steps"] = min(cfg.trainer.log_every_n_steps, cfg.trainer.steps_per_epoch)
    make = instantiate(settings, _partial_=True)
    try:
        made: Trainer = make(
            accelerator="gpu" if device == "cuda" else cfg.trainer.accelerator,
            precision=precision,
            callbacks=[*callbacks, best, last, within],  # after the averaging of weights, which they are to save
            logger=list(watching),
            plugins=[AtomicCheckpointIO()],
            default_root_dir=str(run_dir),
            use_distributed_sampler=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, TypeError) as error:
        raise InputError(f"trainer can't be built: {error}; check the keys under trainer") from error
    return made
