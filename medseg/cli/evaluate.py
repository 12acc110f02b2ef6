"""medseg-evaluate: scores of predicted label files against reference label files, or of the checkpoint of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.evaluation.evaluate import evaluate
from medseg.hydra_app import app
from medseg.runtime.console import show

_LOG = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    app.run("evaluate", start)


def start(cfg: DictConfig) -> dict[str, Any]:
    """Score label files; or with ``run=RUN_DIR`` a checkpoint, and the cross-validation that its run is a fold of."""
    if cfg.run is None:
        return evaluate(cfg)
    from medseg.training.evaluate_run import evaluate_run
    from medseg.training.sweep_job import was_fold

    result = evaluate_run(cfg)
    if cfg.output is None and not cfg.without and was_fold(Path(cfg.run)):
        _cross_validate(cfg)
    return result


def _cross_validate(cfg: DictConfig) -> None:
    """Write the report over all folds again."""
    from medseg.sweeps.compare import cross_validate
    from medseg.training.evaluate_run import stored_configuration

    folder = Path(cfg.run)
    metric = stored_configuration(folder, cfg).metric
    try:
        cross_validate(folder.resolve().parent, OmegaConf.to_container(metric, resolve=True))
    except InputError as error:
        show(_LOG, f"no cross-validation: {error}")
