"""The runs of a sweep: their settings, their scores, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import InputError
from medseg.hydra_app.choices import option_name
from medseg.runtime import moved
from medseg.runtime.values import leaves

FOLD = "split.fold"
"""Key in which the runs of a cross-validation differ."""
_OF_THE_RUN = ("seed", "run_dir", "ckpt_path", "logger", "cache_dir", "engine")
"""Keys that may differ between runs of one arm."""


@dataclass(frozen=True)
class CompletedRun:
    """A run with scores.

    Attributes:
        folder: The run folder.
        settings: Its configuration, flat: key with dots to value.
        result: The content of the file of its scores.
    """

    folder: Path
    settings: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Random seed of the training."""
        return int(self.settings["seed"])

    @property
    def place(self) -> str:
        """Fold and seed, by which runs of different arms are paired."""
        return f"fold {self.settings.get(FOLD)}, seed {self.seed}"

    def score(self, metric: str) -> float:
        """Mean of the metric; NaN if there is none."""
        mean = self.result["summary"][metric]["mean"]
        return float("nan") if mean is None else float(mean)

    def of_cases(self, metric: str) -> dict[str, float]:
        """Mean over the classes of each case."""
        import numpy as np

        from medseg.metrics.score import WHOLE_CASE

        values: dict[str, list[float]] = {}
        for row in self.result["cases"]:
            if row["class"] != WHOLE_CASE and row.get(metric) is not None:
                values.setdefault(row["case"], []).append(row[metric])
        return {case: float(np.mean(v)) for case, v in values.items()}


def read_runs(folder: Path, scores: str = "metrics.json") -> list[CompletedRun]:
    """The completed runs in a folder of a sweep, in the order of their jobs; others have no scores yet.

    Args:
        folder: The folder of the sweep.
        scores: File of each run that holds its scores.

    Raises:
        InputError: There are none.
    """
    jobs = [p.parent for p in folder.glob(f"*/{scores}") if (p.parent / "config.yaml").is_file()]
    if not jobs:
        raise InputError(f"{folder}: no completed runs (subfolders with {scores} and config.yaml) to compare")
    jobs.sort(key=lambda job: (not job.name.isdigit(), int(job.name) if job.name.isdigit() else 0, job.name))
    return [_completed_run(job, scores) for job in jobs]


def _completed_run(job: Path, scores: str) -> CompletedRun:
    try:
        settings = yaml.safe_load((job / "config.yaml").read_text(encoding="utf-8"))
        result = json.loads((job / scores).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"{job}: config.yaml or {scores} can't be read ({type(error).__name__}); run it again"
        ) from error
    if not isinstance(settings, dict) or not isinstance(result, dict) or "summary" not in result:
        raise InputError(f"{job}: config.yaml or {scores} was not written by a training; run it again")
    return CompletedRun(job, dict(leaves(moved.updated(settings))), result)


def differing_keys(runs: Sequence[CompletedRun]) -> list[str]:
    """Keys in which the settings of the runs differ, except those of the run itself."""
    keys = sorted({key for run in runs for key in run.settings})
    compared = [key for key in keys if key.split(".")[0] not in _OF_THE_RUN]
    return [key for key in compared if len({str(run.settings.get(key)) for run in runs}) > 1]


def naming_keys(runs: Sequence[CompletedRun], varied: Sequence[str]) -> list[str]:
    """Keys that name the arms: the class of a group alone, if all arms differ in it; else its other settings too."""
    classes = [key for key in varied if key.endswith("._target_")]
    groups = tuple(key.removesuffix("_target_") for key in classes)
    plain = [key for key in varied if key in classes or not key.rpartition(".")[2].startswith("_")]
    brief = [key for key in plain if key in classes or not key.startswith(groups)]
    return brief if _arms_of(runs, brief) == _arms_of(runs, varied) else plain or list(varied)


def _arms_of(runs: Sequence[CompletedRun], keys: Sequence[str]) -> int:
    """How many arms these keys tell apart."""
    return len({run_name(run, keys) for run in runs})


def run_name(run: CompletedRun, keys: Sequence[str]) -> str:
    """The arm of a run: its values of these keys; of a class its option, such as ``finetuning=lora``."""
    return ", ".join(
        f"{key.removesuffix('._target_')}={_option(run, key.removesuffix('_target_'))}"
        if key.endswith("._target_")
        else f"{key}={_short(run.settings.get(key))}"
        for key in keys
    )


def _option(run: CompletedRun, prefix: str) -> str:
    part = {key.removeprefix(prefix): value for key, value in run.settings.items() if key.startswith(prefix)}
    return option_name(prefix.rstrip(".").replace(".", "/"), part)


def _short(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"…{text[-39:]}"
