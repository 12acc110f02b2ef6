"""Scores of predicted label files against reference label files; no model needed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

_LOG = logging.getLogger(__name__)


@quiet_libraries()
def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Score the files of ``cfg.predictions`` against those of ``cfg.labels``.

    Returns:
        The content of ``metrics.json``; of several folders of predictions that of ``comparison.json``.

    Raises:
        InputError: A folder was not given; a table that lacks a column or case; or files without a partner; or,
            after the others were scored, files that can't be read, on other grids or with values outside the table.
    """
    _check_given(cfg)
    if cfg.without:
        raise InputError("without takes channels away from the cases of a run; add run=RUN_DIR, or leave it out")
    from medseg.evaluation import compare
    from medseg.evaluation.cells import RasteriseOptions
    from medseg.evaluation.folders import evaluate_folders
    from medseg.evaluation.groups import grouping_of, groups_of
    from medseg.evaluation.label_table import label_table
    from medseg.evaluation.options import EvaluationOptions
    from medseg.factory.engine import build_engine
    from medseg.metrics.registry import setting_keys

    output, table = Path(cfg.output), label_table(cfg)
    metrics: Any = None if cfg.metrics is None else OmegaConf.to_container(cfg.metrics, resolve=True)
    options = EvaluationOptions(
        images=None if cfg.images is None else Path(cfg.images),
        valid=None if cfg.valid is None else Path(cfg.valid),
        annotated=None if cfg.annotated is None else Path(cfg.annotated),
        ignore=cfg.ignore,
        background=cfg.background is not None,
        scores=cfg.scores,
        metrics=metrics,
        settings={key: cfg[key] for key in setting_keys() if key in cfg},
        missing=cfg.missing,
        grid_tolerance=cfg.grid_tolerance,
        shapes=RasteriseOptions(cfg.attribute, cfg.layer, cfg.all_touched),
        by=grouping_of(cfg),
    )
    labels = _observers(cfg.labels) if OmegaConf.is_dict(cfg.labels) else Path(cfg.labels)
    engine = build_engine(cfg.engine)
    if isinstance(cfg.predictions, str):
        result = evaluate_folders(Path(cfg.predictions), labels, output, table, options, engine)
        show(_LOG, f"Written: {output}/metrics.json, {output}/cases.csv, {output}/report.html")
    else:
        names: Any = OmegaConf.to_container(cfg.predictions, resolve=True)
        folders = compare.named_folders(names)
        result = compare.compare_folders(folders, labels, output, table, options, engine, groups_of=groups_of(cfg))
    if table is None:
        show(_LOG, "Classes are called after their values: 'names={background: 0, liver: 1, ignore: 255}' names yours")
    return result


def _observers(labels: DictConfig) -> dict[str, Path]:
    """The labels of each observer, by name.

    Raises:
        InputError: One that is no path.
    """
    wrong = {str(name): value for name, value in labels.items() if not isinstance(value, str)}
    if wrong:
        expected = "'labels={reader1: DIR, reader2: DIR}'"
        raise InputError(f"labels={wrong}: expected a folder for each observer: {expected}")
    return {str(name): Path(folder) for name, folder in labels.items()}


def _check_given(cfg: DictConfig) -> None:
    """Raise on folders that were not given."""
    absent = [key for key in ("predictions", "labels", "output") if cfg[key] is None]
    if absent:
        verb, past = ("is", "was") if len(absent) == 1 else ("are", "were")
        words = " and ".join(f"{key}=DIR" for key in absent)
        raise InputError(
            f"{' and '.join(absent)} {verb} needed and {past} not given; add {words} to the command, or score a run "
            "again by run=RUN_DIR"
        )
