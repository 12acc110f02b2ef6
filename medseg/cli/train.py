"""medseg-train: plan if needed, preprocess, train, validate on whole cases, score the best checkpoint."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from medseg.hydra_app import app
from medseg.runtime.console import show
from medseg.sweeps import cascade
from medseg.training.run_directory import command_overrides

_LOG = logging.getLogger(__name__)


def main() -> None:
    """The console script; with no argument it trains the phantom, which runs anywhere in minutes."""
    if len(sys.argv) == 1:
        sys.argv.append("experiment=phantom")
    if cascade.wanted(sys.argv[1:]):
        cascade.run(sys.argv[1:], partial(app.run, "train"), start)
    else:
        app.run("train", start)


def start(cfg: DictConfig) -> Path:
    """Train as configured, repeat an earlier run (``rerun=RUN_DIR``), or sweep (``sweep=optuna``)."""
    from medseg.training.train import train

    if cfg.get("rerun"):
        from medseg.training import rerun

        run_dir = train(rerun.configuration(cfg, command_overrides()))
        for line in rerun.differences(Path(cfg.rerun), run_dir):
            show(_LOG, f"rerun of {cfg.rerun}: {line}")
        return run_dir
    if cfg.get("sweep") is None:
        return train(cfg)
    from medseg.sweeps.trials import sweep

    return sweep(cfg, command_overrides())
