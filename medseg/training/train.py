"""One training, from its configuration to its run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.factory.online import online
from medseg.hydra_app.checks import leave_out_labels
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries
from medseg.training import tracking
from medseg.training.run_directory import command_overrides, is_first, is_sweep_job, owned, run_folder

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from medseg.factory.run import Run

_LOG = logging.getLogger(__name__)


def train(cfg: DictConfig, callbacks: Sequence[Callback] = ()) -> Path:
    """Train as configured.

    Args:
        cfg: ``conf/train.yaml``, composed.
        callbacks: Further callbacks, in addition to those of the configuration.

    Returns:
        The run folder.

    Raises:
        InputError: Anything in the configuration or the data that the user can fix.
    """
    run_dir, resumed = run_folder(cfg)
    cfg.run_dir = str(run_dir)  # before other keys are resolved from it
    asked = cfg.ckpt_path is not None
    cfg.ckpt_path = None if resumed is None else cfg.ckpt_path or "last"  # None: initial weights are loaded
    leave_out_labels(cfg)
    OmegaConf.resolve(cfg)
    if cfg.get("sweep") is not None:
        raise InputError("sweep= is for the command, and for medseg.sweeps.trials.sweep; leave it out to train once")
    if cfg.get("cascade"):
        raise InputError(
            f"cascade={cfg.cascade}: takes predictions of unseen cases, so it is for the command "
            "medseg-train -m cascade=true split.fold=0,1,2,3,4"
        )
    if cfg.judged not in ("best", "last"):
        raise InputError(f"judged={cfg.judged}: choose best or last")
    if is_sweep_job() and _finished(cfg, run_dir, asked=asked):
        show(_LOG, f"{run_dir} holds this training already, scored; it is not repeated")
        return run_dir
    with owned(run_dir, resumed), quiet_libraries(tracker=online(cfg)):
        return _train(cfg, run_dir, resumed, callbacks)


def _finished(cfg: DictConfig, run_dir: Path, *, asked: bool) -> bool:
    from medseg.training.sweep_job import is_finished

    return is_finished(cfg, run_dir, asked=asked)


def _train(cfg: DictConfig, run_dir: Path, resumed: Path | None, callbacks: Sequence[Callback]) -> Path:
    """Train, while no other training writes into the folder."""
    from medseg import checkpoint
    from medseg.evaluation.groups import group_check
    from medseg.factory import class_weights
    from medseg.factory.run import assemble
    from medseg.runtime import distributed
    from medseg.training import artifacts, resume, summary
    from medseg.training.fit import fit

    tracking.configure_loggers(cfg)
    if resumed and distributed.handed() is None:
        resume.check(cfg, resumed, warn=is_first())
    if resumed:
        cfg = class_weights.kept(cfg, checkpoint.read(resumed).metadata.config)
    check_groups = group_check(cfg)
    run = assemble(cfg, run_dir)
    check_groups([case.id for case in run.datamodule.cases["val"]])
    run.trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
    run_dir = distributed.agreed(run.trainer, run_dir)
    cfg.run_dir = str(run_dir)
    if resumed:
        artifacts.keep_weights_report(run, resumed)
    if run.trainer.is_global_zero:
        summary.print_summary(cfg, run, resumed, command_overrides())
    with distributed.first_alone(run.trainer):
        run.datamodule.prepare_data()
    with tracking.tracked(), distributed.handing(run.trainer, run_dir, resumed):
        if run.trainer.is_global_zero:
            _warn_of_leakage(cfg, run)
            artifacts.write_run_files(run, run_dir)
        began = time.monotonic()
        fit(run, run_dir, resumed, command_overrides())
        spent = time.monotonic() - began
        if run.trainer.is_global_zero and not run.trainer.interrupted:
            _finish(cfg, run, run_dir, spent)
    return run_dir


def _finish(cfg: DictConfig, run: Run, run_dir: Path, spent: float) -> None:
    """Write adapters and final scores, and print them with the seconds of training that were ``spent``."""
    from medseg.training import artifacts, calibration, results

    artifacts.save_adapters(cfg, run, run_dir)
    segments = run.method.metadata.segments
    if cfg.test and segments and cfg.temperature_scaling:
        calibration.calibrate(cfg, run, run_dir)
    result = results.score_checkpoint(cfg, run, run_dir) if cfg.test and segments else None
    tracking.end(cfg, run, run_dir, result)
    results.print_results(run_dir, spent, segments=segments)


def _warn_of_leakage(cfg: DictConfig, run: Run) -> None:
    """Warn of what training cases share with those of validation, and of the test if there will be one."""
    from medseg.data.store.content_hash import Digests
    from medseg.factory import split

    parts = run.datamodule.cases
    test = split.judged(cfg.split, run.dataset) if cfg.test and run.method.metadata.segments else []
    hashes = Digests(run.datamodule.store / "digests.json")
    others = {name: (source, run.datamodule.streams[name].cases) for name, source in run.sources.items()}
    further: dict[str, Any] = {"test": test, "digests": hashes.memory, "others": others}
    for line in split.leakage(parts["train"], parts["val"], run.dataset, **further):
        _LOG.warning("%s", line)
    hashes.save()  # the cells of volumes are read once
