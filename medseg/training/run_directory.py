"""The folder of a run: which one it is, what is resumed in it, and that one training at a time writes into it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from medseg.errors import InputError
from medseg.runtime import drafts
from medseg.runtime.run_lock import locked

_LOG = logging.getLogger(__name__)

_DATE = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
LAST = Path("checkpoints") / "last.ckpt"
"""Path in a run folder of the checkpoint that ``ckpt_path=last`` resumes from."""
VALIDATION = "validation.json"
"""File of a run folder: the scores of its validation fold, where a sweep names the fold."""


def command_overrides() -> list[str]:
    """Overrides of the command that is being run; none in Python."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def is_sweep_job() -> bool:
    """Whether this training is a job of ``medseg-train -m``."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run_folder(cfg: DictConfig) -> tuple[Path, Path | None]:
    """The run's folder, and the checkpoint to resume from.

    ``ckpt_path=last`` means the last checkpoint of ``run_dir``. Where ``run_dir`` is the default, which is named after
    the date, it means the newest run of the same name next to it. Where there is no checkpoint yet, the training
    starts from scratch, with a warning: in the folder of the run that was begun, or in ``run_dir``. Jobs of a sweep get
    a folder each inside ``run_dir``, and resume what is there.

    Raises:
        InputError: No such checkpoint, or the folder already holds a training.
    """
    from hydra.core.hydra_config import HydraConfig

    if "LOCAL_RANK" in os.environ:
        from medseg.runtime import distributed

        if (decided := distributed.handed()) is not None:
            return decided
    run_dir = Path(cfg.run_dir)
    if sweeps := is_sweep_job():
        run_dir = run_dir / str(HydraConfig.get().job.num)
        if cfg.ckpt_path is None and (run_dir / LAST).is_file():
            return run_dir, run_dir / LAST
    if cfg.ckpt_path == "last":
        if not sweeps and not (run_dir / LAST).is_file() and is_default(run_dir, cfg.name, command_overrides()):
            run_dir = newest(run_dir, cfg.name) or run_dir
        return run_dir, resumable(run_dir)
    return run_dir, _given_checkpoint(run_dir, cfg.ckpt_path)


def _given_checkpoint(run_dir: Path, ckpt_path: str | None) -> Path | None:
    """The checkpoint at a path; the folder must not hold another training."""
    resumed = None if ckpt_path is None else Path(ckpt_path)
    if resumed is not None and not resumed.is_file():
        raise InputError(f"ckpt_path={resumed}: no such file; expected a checkpoint, last, or null")
    last = run_dir / LAST
    if last.exists() and (resumed is None or resumed.resolve().parent != last.resolve().parent):
        raise InputError(f"run_dir={run_dir} already holds a training; ckpt_path=last resumes it, or name another")
    return resumed


def is_default(run_dir: Path, name: str, overrides: list[str]) -> bool:
    """Whether ``run_dir`` was not chosen by the user: it is ``runs/<name>/<date>``.

    Example:
        >>> is_default(Path("runs/ct/2026-01-31_12-00-00"), "ct", []), is_default(Path("runs/ct/first"), "ct", [])
        (True, False)
    """
    is_set = any(word.lstrip("+").partition("=")[0] == "run_dir" for word in overrides)
    return not is_set and run_dir.parent == Path("runs") / name and bool(_DATE.fullmatch(run_dir.name))


def newest(run_dir: Path, name: str) -> Path | None:
    """The newest run of this name in the folder of ``run_dir``; None if there is none."""
    begun = [path.parent for path in run_dir.parent.glob("*/config.yaml") if _name_of(path) == name]
    return max(begun, key=_written, default=None)


def resumable(run_dir: Path) -> Path | None:
    """The last checkpoint of a folder; None, with a warning, where there is none to resume from."""
    if (run_dir / LAST).is_file():
        return run_dir / LAST
    if is_first():
        begun = "the run has no checkpoint yet" if (run_dir / "config.yaml").exists() else "there is no run to resume"
        _LOG.warning("ckpt_path=last: %s in %s; it starts from scratch", begun, run_dir)
    return None


def is_first() -> bool:
    """Whether this is the first or only process of a training, by the environment variables of the launcher."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


@contextmanager
def owned(run_dir: Path, resumed: Path | None) -> Iterator[None]:
    """Lock the folder for this training; drafts of killed trainings are removed from it first.

    Raises:
        InputError: Another process holds the folder, or has finished a checkpoint in it meanwhile.
    """
    if not is_first():
        yield
        return
    with locked(run_dir):
        if resumed is None and (run_dir / LAST).exists():
            raise InputError(f"run_dir={run_dir} already holds a training; ckpt_path=last resumes it, or name another")
        drafts.remove_files(run_dir)
        drafts.remove_files(run_dir / LAST.parent)
        yield


def _name_of(config: Path) -> str | None:
    """The ``name`` in the configuration of a run, which is read as plain values; None if it has none."""
    try:
        stored: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # it is not a run of this name
        return None
    return stored.get("name") if isinstance(stored, dict) else None


def _written(run_dir: Path) -> float:
    return max(path.stat().st_mtime for path in (run_dir / "config.yaml", run_dir / LAST) if path.exists())
