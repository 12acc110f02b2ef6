"""Comparison of the settings of a sweep, in pairs of runs with the same seed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra.experimental.callback import Callback

from medseg.errors import InputError
from medseg.hydra_app.choices import option_name
from medseg.metrics.score import WHOLE_CASE
from medseg.metrics.summary import primary_metric
from medseg.runtime import moved
from medseg.runtime.atomic import write_whole
from medseg.runtime.console import show
from medseg.runtime.values import leaves

_LOG = logging.getLogger(__name__)

_OF_THE_RUN = ("seed", "run_dir", "ckpt_path", "logger", "cache_dir")
"""Keys that may differ between runs of one arm."""
_FOLD = "split.fold"
_RESAMPLES = 2000


@dataclass(frozen=True)
class CompletedRun:
    """A run with scores.

    Attributes:
        folder: The run folder.
        settings: Its configuration, flat: key with dots to value.
        result: The content of its ``metrics.json``.
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
        return f"fold {self.settings.get(_FOLD)}, seed {self.seed}"

    def score(self, metric: str) -> float:
        """Mean of the metric; NaN if there is none."""
        mean = self.result["summary"][metric]["mean"]
        return float("nan") if mean is None else float(mean)

    def of_cases(self, metric: str) -> dict[str, float]:
        """Mean over the classes of each case."""
        values: dict[str, list[float]] = {}
        for row in self.result["cases"]:
            if row["class"] != WHOLE_CASE and row.get(metric) is not None:
                values.setdefault(row["case"], []).append(row[metric])
        return {case: float(np.mean(v)) for case, v in values.items()}


def read_runs(folder: Path) -> list[CompletedRun]:
    """The completed runs in a folder of a sweep, in the order of their jobs; others have no ``metrics.json``.

    Raises:
        InputError: There are none.
    """
    jobs = [p.parent for p in folder.glob("*/metrics.json") if (p.parent / "config.yaml").is_file()]
    if not jobs:
        raise InputError(f"{folder}: no completed runs (subfolders with metrics.json and config.yaml) to compare")
    jobs.sort(key=lambda job: (not job.name.isdigit(), int(job.name) if job.name.isdigit() else 0, job.name))
    return [_completed_run(job) for job in jobs]


def _completed_run(job: Path) -> CompletedRun:
    try:
        settings = yaml.safe_load((job / "config.yaml").read_text(encoding="utf-8"))
        result = json.loads((job / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"{job}: config.yaml or metrics.json can't be read ({type(error).__name__}); run it again"
        ) from error
    if not isinstance(settings, dict) or not isinstance(result, dict) or "summary" not in result:
        raise InputError(f"{job}: config.yaml or metrics.json was not written by a training; run it again")
    return CompletedRun(job, dict(leaves(moved.updated(settings))), result)


def compare(runs: Sequence[CompletedRun]) -> dict[str, Any]:
    """Arms of a sweep and their differences from its first one, run by run of the same seed.

    Runs that differ in their seed alone form an arm. ``difference`` of an arm is the mean over seeds of its score
    less that of the first arm with the same seed; ``ci95`` is Student's interval of that mean, which holds for new
    seeds on these cases (null with one seed). ``of_cases`` is the same difference with every case averaged over
    seeds, and its ``ci95`` the percentile bootstrap over cases, which holds for new cases with these seeds; null
    where cases have no score of their own. Neither interval covers both.

    Folds of a cross-validation are no rivals: runs that differ in ``split.fold`` are of one arm too, and arms are
    paired by fold and seed. Then ``ci95`` is null, as folds share training cases. A sweep over folds alone has one
    arm, the mean over folds, and no differences.

    Args:
        runs: Runs with the same metric, on the same cases, or on those of their folds.

    Returns:
        JSON-able: ``metric``, ``varied`` (keys), ``folds`` (whether several), ``arms`` (settings, scores by seed or
        fold, mean) and ``differences``.

    Raises:
        InputError: A single arm on a single fold, or arms that share no seed.
    """
    metric = _common_metric(runs)
    differing = _differing_keys(runs)
    folds, varied = _FOLD in differing, [key for key in differing if key != _FOLD]
    arms = _arms(runs, varied, folds=folds)
    first, *others = arms
    if not others and not folds:
        raise InputError("the runs differ in their seed alone; sweep a setting as well, such as model.encoder.weights")
    return {
        "metric": metric,
        "varied": varied,
        "folds": folds,
        "arms": [_arm(name, arm, metric) for name, arm in arms.items()],
        "differences": [
            _difference(name, arms[name], first, arms[first], metric) | ({"ci95": None} if folds else {})
            for name in others
        ],
    }


def _common_metric(runs: Sequence[CompletedRun]) -> str:
    metric = primary_metric(runs[0].result)
    if metric is None or any(metric not in run.result["summary"] for run in runs):
        raise InputError(f"the runs have no metric in common; {runs[0].folder / 'metrics.json'} has {metric}")
    return metric


def _differing_keys(runs: Sequence[CompletedRun]) -> list[str]:
    """Keys in which the settings of the runs differ, except those of the run itself."""
    keys = sorted({key for run in runs for key in run.settings})
    compared = [key for key in keys if key.split(".")[0] not in _OF_THE_RUN]
    return [key for key in compared if len({str(run.settings.get(key)) for run in runs}) > 1]


def _arms(runs: Sequence[CompletedRun], varied: Sequence[str], *, folds: bool) -> dict[str, dict[str, CompletedRun]]:
    """Runs by arm, then by seed or fold."""
    arms: dict[str, dict[str, CompletedRun]] = {}
    keys, place = _naming_keys(runs, varied), _places(runs, folds=folds)
    for run in runs:
        arms.setdefault(_name(run, keys) or "all folds", {})[place[run.place]] = run
    return arms


def _arm(name: str, runs: Mapping[str, CompletedRun], metric: str) -> dict[str, Any]:
    scores = {key: run.score(metric) for key, run in runs.items()}
    return {"name": name, "scores": scores, "mean": float(np.mean(list(scores.values())))}


def _places(runs: Sequence[CompletedRun], *, folds: bool) -> dict[str, str]:
    """Short keys of seeds, such as ``0``; of folds ``fold 0``, with the seed where seeds differ too."""
    several = len({run.seed for run in runs}) > 1
    if not folds:
        return {run.place: str(run.seed) for run in runs}
    return {run.place: run.place if several else run.place.partition(",")[0] for run in runs}


def paired(differences: Sequence[float]) -> tuple[float, list[float] | None]:
    """Mean of paired differences, and Student's 95 % interval of it; None with fewer than two.

    Example:
        >>> mean, interval = paired([1.0, 2.0, 3.0])
        >>> mean, [round(bound, 3) for bound in interval]
        (2.0, [-0.484, 4.484])
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    from scipy import stats  # here, as Hydra imports this file whenever a command starts

    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, [mean - half, mean + half]


def _difference(
    name: str, arm: Mapping[str, CompletedRun], first: str, base: Mapping[str, CompletedRun], metric: str
) -> dict[str, Any]:
    seeds = [seed for seed in arm if seed in base]
    if not seeds:
        raise InputError(f"{name} and {first} share no seed ({sorted(arm)}, {sorted(base)}); sweep both over the same")
    by_seed = {seed: arm[seed].score(metric) - base[seed].score(metric) for seed in seeds}
    mean, interval = paired(list(by_seed.values()))
    return {
        "of": name,
        "to": first,
        "seeds": by_seed,
        "difference": mean,
        "ci95": interval,
        "of_cases": _over_cases([(arm[s].of_cases(metric), base[s].of_cases(metric)) for s in seeds]),
    }


def _over_cases(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Any] | None:
    """Of cases that every run of a fold has, each averaged over its pairs of runs; a case is of one fold."""
    by_case: dict[str, list[float]] = {}
    for arm, base in pairs:
        for case in arm.keys() & base.keys():
            by_case.setdefault(case, []).append(arm[case] - base[case])
    most = max(map(len, by_case.values()), default=0)
    cases = sorted(case for case, differences in by_case.items() if len(differences) == most)
    if len(cases) < 2:
        return None
    values = np.array([np.mean(by_case[case]) for case in cases])
    draws = np.random.default_rng(0).integers(0, len(cases), (_RESAMPLES, len(cases)))
    interval = np.percentile(values[draws].mean(axis=1), [2.5, 97.5]).tolist()
    return {"difference": float(values.mean()), "ci95": interval, "cases": len(cases)}


def _naming_keys(runs: Sequence[CompletedRun], varied: Sequence[str]) -> list[str]:
    """Keys that name the arms: the class of a group alone, if all arms differ in it; else its other settings too."""
    groups = [key.removesuffix("_target_") for key in varied if key.endswith("._target_")]
    plain = [key for key in varied if not key.rpartition(".")[2].startswith("_") or key.endswith("._target_")]
    brief = [key for key in plain if key.endswith("._target_") or not key.startswith(tuple(groups))]
    apart = {_name(run, varied) for run in runs}
    return brief if len({_name(run, brief) for run in runs}) == len(apart) else plain or list(varied)


def _name(run: CompletedRun, keys: Sequence[str]) -> str:
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


class CompareRuns(Callback):
    """At the end of ``medseg-train -m``: prints the comparison, and writes it next to the runs."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Write ``comparison.json`` and ``comparison.html`` into the folder of the sweep, if it has two arms."""
        folder = Path(config.hydra.sweep.dir)
        try:
            result = compare(read_runs(folder))
        except InputError as error:
            show(_LOG, f"no comparison: {error}")
            return
        from medseg.report.comparison import lines, write_comparison

        write_whole(folder / "comparison.json", json.dumps(result, indent=1) + "\n")
        write_comparison(folder / "comparison.html", result)
        for line in [*lines(result), f"In full: {folder / 'comparison.html'}"]:
            show(_LOG, line)
