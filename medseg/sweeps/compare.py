"""Comparison of the settings of a sweep, in pairs of runs with the same seed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from medseg.errors import InputError
from medseg.metrics.differences import paired
from medseg.metrics.paired_draws import PairedDraws, difference, of_values
from medseg.metrics.summary import primary_metric
from medseg.runtime.atomic import write_whole
from medseg.runtime.console import show
from medseg.sweeps.cross_validation import cross_validations, sweeps_folds, write
from medseg.sweeps.runs import FOLD, CompletedRun, differing_keys, naming_keys, read_runs, run_name
from medseg.training.run_directory import VALIDATION

_LOG = logging.getLogger(__name__)


def compare(runs: Sequence[CompletedRun]) -> dict[str, Any]:
    """Arms of a sweep and their differences from its first one, run by run of the same seed.

    Runs that differ in their seed alone form an arm. ``difference`` of an arm is the mean over seeds of its score
    less that of the first arm with the same seed; ``ci95`` is Student's interval of that mean, which holds for new
    seeds on these cases (null with one seed). ``of_cases`` is the same difference with every case averaged over
    seeds, and its ``ci95``, ``p`` and ``detectable`` (see ``paired_draws.Difference``) hold for new cases with
    these seeds; null where cases have no score of their own. Neither interval covers both.

    Folds of a cross-validation are no rivals: runs that differ in ``split.fold`` are of one arm too, and arms are
    paired by fold and seed. Then ``ci95`` is null, as folds share training cases.

    Args:
        runs: Runs with the same metric, on the same cases, or on those of their folds.

    Returns:
        JSON-able: ``metric``, ``varied`` (keys), ``folds`` (whether several), ``arms`` (settings, scores by seed or
        fold, mean) and ``differences``.

    Raises:
        InputError: A single arm, or arms that share no seed.
    """
    metric = _common_metric(runs)
    differing = differing_keys(runs)
    folds, varied = FOLD in differing, [key for key in differing if key != FOLD]
    arms = _arms(runs, varied, folds=folds)
    first, *others = arms
    if not others:
        raise InputError(
            "the runs differ in their seed or fold alone; sweep a setting as well, such as model.encoder.weights"
        )
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


def _arms(runs: Sequence[CompletedRun], varied: Sequence[str], *, folds: bool) -> dict[str, dict[str, CompletedRun]]:
    """Runs by arm, then by seed or fold."""
    arms: dict[str, dict[str, CompletedRun]] = {}
    keys, place = naming_keys(runs, varied), _places(runs, folds=folds)
    for run in runs:
        arms.setdefault(run_name(run, keys), {})[place[run.place]] = run
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
    apart = difference(of_values(np.zeros(len(cases)), values), PairedDraws.of(cases))
    return None if apart is None else apart.to_dict() | {"cases": len(cases)}


class CompareRuns(Callback):
    """At the end of ``medseg-train -m``: cross-validations and the comparison, printed and next to the runs."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Write the scores over all folds, if folds were swept, and ``comparison.json`` and ``.html`` of several arms.

        One cross-validation is in the folder of the sweep; of several arms, each in a folder of its own there.
        """
        folder = Path(config.hydra.sweep.dir)
        try:
            if sweeps_folds(folder, config.hydra.overrides.task):
                cross_validate(folder, OmegaConf.to_container(config.metric, resolve=True))
            else:
                _write_comparison(folder, read_runs(folder))
        except InputError as error:
            show(_LOG, f"no comparison: {error}")


def cross_validate(folder: Path, own_metric: Any) -> None:
    """Write each cross-validation of a sweep, and the comparison of several.

    Args:
        folder: Folder of the sweep.
        own_metric: ``cfg.metric`` of the command.

    Raises:
        InputError: No fold was scored, or folds that can't be taken together.
    """
    runs = read_runs(folder, VALIDATION)
    varied = [key for key in differing_keys(runs) if key != FOLD]
    arms = cross_validations(runs, varied)
    for one in arms:
        for line in write(folder / one.folder_name if len(arms) > 1 else folder, one, own_metric):
            show(_LOG, line)
        if one.missing:
            show(_LOG, f"The same command with run_dir={folder} trains what is missing, and nothing else")
    if varied:
        _write_comparison(folder, runs)


def _write_comparison(folder: Path, runs: Sequence[CompletedRun]) -> None:
    from medseg.report.comparison import lines, write_comparison

    result = compare(runs)
    write_whole(folder / "comparison.json", json.dumps(result, indent=1) + "\n")
    write_comparison(folder / "comparison.html", result)
    for line in [*lines(result), f"In full: {folder / 'comparison.html'}"]:
        show(_LOG, line)
