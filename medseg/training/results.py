"""The end of a training: its checkpoint is scored on whole cases, and the results are printed."""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from medseg.runtime.console import show
from medseg.training import tracking
from medseg.training.artifacts import trusted_names
from medseg.training.sweep_job import sweeps_folds

if TYPE_CHECKING:
    from medseg.factory.run import Run

_LOG = logging.getLogger(__name__)


def score_checkpoint(cfg: DictConfig, run: Run, run_dir: Path) -> dict[str, Any]:
    """Score the checkpoint ``cfg.judged`` on whole cases: those of the test set, else of the validation fold.

    Writes ``metrics.json``, ``cases.csv`` and ``report.html``; where a sweep varies the fold, before these
    ``validation.json``, the scores of the validation fold, of which cross-validation is made.

    Returns:
        The content of ``metrics.json``.
    """
    from medseg import checkpoint
    from medseg.evaluation.groups import grouping_of_run
    from medseg.prediction import restore
    from medseg.training.final_scores import Scored

    loaded = checkpoint.read(run_dir / "checkpoints" / f"{cfg.judged}.ckpt")
    device = run.trainer.strategy.root_device.type
    scored = Scored(
        restore.predictor(loaded, device=device, trust=trusted_names(cfg)),
        loaded.metadata,
        cfg.judged,
        run.dataset,
        run.datamodule.cases["val"],
        fold=sweeps_folds(),
        groups=grouping_of_run(cfg),
    )
    result, drawings = scored.write(cfg, run_dir, run_dir.name)
    tracking.log_scores(run, result, drawings)
    return result


def print_results(run_dir: Path, spent: float, *, segments: bool) -> None:
    """Print score, time and memory of a training, and the next command.

    Args:
        run_dir: Folder of the run.
        spent: Seconds of training.
        segments: Whether the network segments; False after pretraining.
    """
    from medseg.runtime.progress import clock

    scored = run_dir / "metrics.json"
    if scored.exists():
        result = json.loads(scored.read_text(encoding="utf-8"))
        show(_LOG, score_line(result))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    best = f"{run_dir}/checkpoints/best.ckpt"
    held = "report.html, checkpoints/best.ckpt" if scored.exists() else "checkpoints/best.ckpt"
    show(_LOG, f"Trained for {clock(spent)}, peak memory {peak:.1f} GiB. Everything is in {run_dir} ({held}).")
    after = (
        f"medseg-predict checkpoint={best} input=DIR_OR_FILE output=predictions"
        if segments
        else f"medseg-train ... model.encoder.weights={best} (or weights={best} for all of the network)"
    )
    show(_LOG, f"Next: {after}")


def _by_class(result: Mapping[str, Any], key: str) -> str:
    """The mean of each class that has one."""
    means = {name: by_metric[key]["mean"] for name, by_metric in result["classes"].items()}
    return ", ".join(f"{name} {mean:.4f}" for name, mean in means.items() if mean is not None)


def score_line(result: dict[str, Any]) -> str:
    """The score of a run in one line: its primary metric, over all and by class, and the first one of whole cases."""
    from medseg.metrics.summary import primary_metric
    from medseg.report.titles import title

    key = primary_metric(result)
    if key is None:
        return "The scores are in metrics.json"
    by_class = _by_class(result, key)
    of_case = (name for name in result["summary"] if all(name not in by for by in result["classes"].values()))
    means = {name: result["summary"][name]["mean"] for name in (key, *islice(of_case, 1))}
    shown = [f"{title(name)} {'none' if mean is None else f'{mean:.4f}'}" for name, mean in means.items()]
    entered = f"{result['summary'][key]['cases']} cases of {result['policy']['cases']}"
    return f"{', '.join(shown)} on {entered} ({by_class})"
