"""A training as one job of ``medseg-train -m``: repeated by the same command, it is skipped or goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.training.resume import differences
from medseg.training.run_directory import LAST, VALIDATION, is_sweep_job
from medseg.training.stored_config import read_config

_BUDGET = ("max_steps", "max_epochs", "max_time")


def sweeps_folds() -> bool:
    """Whether this training is a job of a sweep that names its fold."""
    from hydra.core.hydra_config import HydraConfig

    words = HydraConfig.get().overrides.task if is_sweep_job() else ()
    return any(w.lstrip("+").startswith("split.fold=") and not w.endswith("=all") for w in words)


def was_fold(folder: Path) -> bool:
    """Whether a run is a job of a sweep over folds, by its scores or by what Hydra wrote next to the run folders."""
    if (folder / VALIDATION).is_file():
        return True
    try:
        stored = yaml.safe_load((folder.resolve().parent / "multirun.yaml").read_text(encoding="utf-8"))
        words = [str(word).lstrip("+") for word in stored["hydra"]["overrides"]["task"]]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, yaml.YAMLError):
        return False
    return any(word.startswith("split.fold=") for word in words)


def is_finished(cfg: DictConfig, run_dir: Path, *, asked: bool) -> bool:
    """Whether the folder of a job holds this very training, scored and with the same budget.

    The scores count only if they are newer than the last checkpoint and the configuration: a training that went on
    after it was scored is not finished.

    Args:
        cfg: The configuration of the job, resolved.
        run_dir: Its folder.
        asked: Whether the command says ``ckpt_path=last``: then other settings are accepted, as without a sweep.

    Raises:
        InputError: The folder holds a training with other settings.
    """
    written = [run_dir / name for name in ("config.yaml", LAST)]
    if not all(path.is_file() for path in written):
        return False
    stored = read_config(written[0], "remove this folder, or name another")
    now = OmegaConf.to_container(cfg, resolve=True)
    differing = dict(differences(stored, now))  # type: ignore[arg-type]
    if differing and not asked:
        raise InputError(
            f"run_dir={run_dir} holds a training with other settings ({_shown(differing)}); repeat its command, or "
            "name another"
        )
    scores = [run_dir / "metrics.json", *([run_dir / VALIDATION] if sweeps_folds() else [])]
    return not differing and _same_end(stored, cfg) and _newer(scores, written)


def _shown(differing: dict[str, tuple[object, object]]) -> str:
    """The first key with its two values, and how many there are besides."""
    key, (before, after) = next(iter(differing.items()))
    return f"{key} {before} -> {after}" + (f" and {len(differing) - 1} more" if len(differing) > 1 else "")


def _newer(scores: list[Path], written: list[Path]) -> bool:
    """Whether all scores are there, and none is older than what a training writes."""
    latest = max(path.stat().st_mtime_ns for path in written)
    return all(path.is_file() and path.stat().st_mtime_ns >= latest for path in scores)


def _same_end(stored: Mapping[str, Any], cfg: DictConfig) -> bool:
    """Whether budget and final scores are those of an earlier configuration."""
    budget = stored.get("trainer") or {}
    same = all(budget.get(key) == cfg.trainer.get(key) for key in _BUDGET)
    return same and all(stored.get(key) == cfg.get(key) for key in ("test", "judged"))
