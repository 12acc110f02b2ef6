"""The selection of runs, from their folders to ``selection.yaml``."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.runtime import drafts
from medseg.runtime.atomic import write_together
from medseg.runtime.console import show
from medseg.runtime.verbosity import quiet_libraries

if TYPE_CHECKING:
    from medseg.selection.decisions import Decision
    from medseg.selection.members import Member

_LOG = logging.getLogger(__name__)
_DRAFT = ".select-"
_RULE = (
    "the null choice wins unless the interval of the paired gain over cases lies above 0; intervals (Student) hold for "
    "all candidates of a decision together (Bonferroni)"
)


@quiet_libraries()
def select(cfg: DictConfig) -> Path:
    """Choose networks, mirrors and post-processing of the runs ``cfg.runs``.

    Writes ``selection.yaml`` and ``candidates.csv`` into ``cfg.output``.

    Returns:
        ``selection.yaml``.

    Raises:
        InputError: Runs that can't be chosen from, see ``members.read_members``; or another value of the configuration.
    """
    OmegaConf.resolve(cfg)
    _check(cfg)
    from medseg.metrics.accumulate import csv_text
    from medseg.metrics.summary import none_if_nan
    from medseg.prediction.checkpoints import FORMAT
    from medseg.selection.decisions import lines
    from medseg.selection.members import read_members
    from medseg.selection.stages import Stages

    runs = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    members = read_members(runs, cfg.judged)
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    drafts.remove_dead_folders(output, _DRAFT)
    folder = drafts.draft_folder(output, _DRAFT)
    try:
        stages = Stages(cfg, members, folder)
        for decision in stages.decide():
            show(_LOG, "\n".join([*lines(decision), ""]))
        rows = [{key: none_if_nan(value) for key, value in row.items()} for row in stages.rows()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    target = output / "selection.yaml"
    stored = {
        "format": FORMAT,
        "members": [
            {"checkpoint": os.path.relpath(network.path, output), "digest": network.digest}
            for member in stages.chosen
            for network in member.networks
        ],
        "flips": stages.flips,
        "postprocessing": stages.steps,
        "evidence": _evidence(cfg, members, stages.metric, stages.decisions),
    }
    write_together(
        {output / "candidates.csv": csv_text(rows), target: yaml.safe_dump(stored, sort_keys=False, width=120)}
    )
    show(
        _LOG,
        f"Written: {target}, {output / 'candidates.csv'}. "
        f"Next: medseg-predict checkpoint={target} input=DIR output=DIR",
    )
    return target


def _evidence(cfg: DictConfig, members: list[Member], metric: str, decisions: list[Decision]) -> dict[str, Any]:
    """What the selection rests on, for readers; a prediction does not need it."""
    return {
        "metric": metric,
        "cases": len(members[0].network_of),
        "rule": _RULE,
        "alpha": cfg.alpha,
        "configurations": {member.name: [str(network.path) for network in member.networks] for member in members},
        "decisions": [decision.to_dict() for decision in decisions],
    }


def _check(cfg: DictConfig) -> None:
    """Raise on values that no choice of runs could make right."""
    from medseg.inference.postprocess import STEPS, UNITS

    for key, choices in (("steps", tuple(STEPS)), ("unit", UNITS)):
        values = [cfg[key]] if isinstance(cfg[key], str) else cfg[key] or ()
        if unknown := [value for value in values if value not in choices]:
            raise InputError(f"{key}={unknown[0]}: expected one of {', '.join(choices)}")
