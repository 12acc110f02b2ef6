"""The end of a training: its checkpoint is scored on whole cases, and the results are printed."""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.runtime.atomic import write_whole
from medseg.runtime.console import show
from medseg.training import tracking
from medseg.training.artifacts import trusted_names
from medseg.training.run_directory import VALIDATION
from medseg.training.sweep_job import sweeps_folds

if TYPE_CHECKING:
    from medseg.data.case import Case
    from medseg.factory.run import Run
    from medseg.metrics.accumulate import CaseScores

_LOG = logging.getLogger(__name__)


def score_checkpoint(cfg: DictConfig, run: Run, run_dir: Path) -> dict[str, Any]:
    """Predict whole cases with the checkpoint ``cfg.judged``: those of the test set, else of the validation fold.

    Writes ``metrics.json``, ``cases.csv`` and ``report.html``; where a sweep varies the fold, before these
    ``validation.json``, the scores of the validation fold, of which cross-validation is made.

    Returns:
        The content of ``metrics.json``.
    """
    from medseg.evaluation.predictor import evaluate_predictor
    from medseg.factory import split
    from medseg.factory.instantiate import instantiate
    from medseg.metrics.accumulate import tables
    from medseg.prediction import restore
    from medseg.report.html import write_run_report
    from medseg.runtime.progress import watched

    path = run_dir / "checkpoints" / f"{cfg.judged}.ckpt"
    device = run.trainer.strategy.root_device.type
    predictor = restore.predictor(path, device=device, trust=trusted_names(cfg))
    test = split.judged(cfg.split, run.dataset)
    cases, which = (
        (test, split.TEST_SET) if test else (run.datamodule.cases["val"], f"validation fold {cfg.split.fold}")
    )

    def scored(cases: Sequence[Case], which: str, shown: int) -> tuple[CaseScores, dict[str, Any], list[Any]]:
        scores: CaseScores = instantiate(cfg.metric)(labels=run.dataset.spec.labels)
        pictured = evaluate_predictor(
            predictor.arrays,
            cases,
            run.dataset.read,
            scores,
            shown=shown,
            watch=lambda c: watched(c, f"evaluating {which}", so_far=scores.glance),
        )
        result = scores.result()
        result["policy"] |= {"cases": which, "checkpoint": cfg.judged, "step": str(predictor.step)}
        return scores, result, pictured

    scores, result, shown = scored(cases, which, 4)
    if sweeps_folds():
        fold = f"validation fold {cfg.split.fold}"
        held, of_fold, _ = scored(run.datamodule.cases["val"], fold, 0) if test else (scores, result, shown)
        _write_validation(cfg, run_dir, of_fold | held.stored() | {"labels": run.dataset.spec.labels.to_dict()})
    stored = run.method.metadata.to_dict()
    write_run_report(run_dir, result, shown, run.dataset.spec, stored, tables=tables(result), metrics=scores.metrics)
    tracking.log_scores(run, result, shown)
    return result


def _write_validation(cfg: DictConfig, run_dir: Path, scores: dict[str, object]) -> None:
    """Write the scores of the validation fold with all that is needed to add those of other folds."""
    settings = {"fold": cfg.split.fold, "metric": OmegaConf.to_container(cfg.metric, resolve=True)}
    write_whole(run_dir / VALIDATION, json.dumps({"format": 1, **settings, **scores}, allow_nan=False) + "\n")


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
