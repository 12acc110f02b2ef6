"""Cross-validation: the folds of a sweep as one set of scores, each case predicted by the network that never saw it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from medseg.errors import InputError
from medseg.sweeps.runs import FOLD, CompletedRun, naming_keys, read_runs, run_name
from medseg.training.run_directory import VALIDATION


@dataclass(frozen=True)
class CrossValidation:
    """Runs that differ in their fold alone.

    Attributes:
        name: What tells it from others of the sweep; empty if there are none.
        runs: One for each fold that was scored, by fold.
        missing: Cases that a fold of the split holds, and no run scored.
    """

    name: str
    runs: Mapping[int, CompletedRun]
    missing: tuple[str, ...] = ()

    @property
    def folder_name(self) -> str:
        """Name of its folder in that of the sweep."""
        return re.sub(r"[^\w.=,+-]+", "_", self.name)


def sweeps_folds(folder: Path, words: Sequence[str]) -> bool:
    """Whether a sweep is over folds, by the words of its command or by the settings of its runs.

    Args:
        folder: Folder of the sweep.
        words: Overrides of the command.
    """
    named = [word.lstrip("+") for word in words if word.lstrip("+").startswith(f"{FOLD}=")]
    if any(OverridesParser.create().parse_override(word).is_sweep_override() for word in named):
        return True
    return len({run.settings.get(FOLD) for run in read_runs(folder)}) > 1


def cross_validations(runs: Sequence[CompletedRun], varied: Sequence[str]) -> list[CrossValidation]:
    """The cross-validations of a sweep: one for each arm and seed.

    Args:
        runs: Runs with scores of their validation fold.
        varied: Keys in which the arms differ.

    Raises:
        InputError: Two runs scored the same case.
    """
    seeds = ["seed"] if len({run.seed for run in runs}) > 1 else []
    keys = [*naming_keys(runs, varied), *seeds]
    arms: dict[str, dict[int, CompletedRun]] = {}
    for run in runs:
        arms.setdefault(run_name(run, keys), {})[int(run.settings[FOLD])] = run
    return [_cross_validation(name, dict(sorted(of_fold.items()))) for name, of_fold in arms.items()]


def _cross_validation(name: str, runs: Mapping[int, CompletedRun]) -> CrossValidation:
    fold_of: dict[str, int] = {}
    split: set[str] = set()
    for fold, run in runs.items():
        for case in _cases(run.result):
            if fold_of.setdefault(case, fold) != fold:
                raise InputError(
                    f"no cross-validation: case {case} validates in the folds {fold_of[case]} and {fold} "
                    f"({run.folder}); each case has to validate once, see split.file"
                )
        split |= _split_cases(run.folder)
    return CrossValidation(name, runs, tuple(sorted(split - fold_of.keys())))


def _cases(result: Mapping[str, Any]) -> Iterator[str]:
    return iter(dict.fromkeys(row["case"] for row in result["cases"]))


def _split_cases(folder: Path) -> set[str]:
    """Cases that a run trained on or validates with."""
    try:
        parts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"]
        return {*parts["train"], *parts["val"]}
    except (OSError, ValueError, KeyError, TypeError):  # then nothing is known to be missing
        return set()


def merged(one: CrossValidation, own_metric: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The scores of all cases together, exactly as if one run had scored them.

    Args:
        one: The cross-validation.
        own_metric: ``cfg.metric`` of the command, whose classes may be imported.

    Returns:
        The content of ``metrics.json``, with ``folds`` and ``missing`` in addition; and its ``CaseScores``.

    Raises:
        InputError: Folds with other classes or other metrics.
    """
    from medseg.factory.instantiate import instantiate
    from medseg.labels import LabelTable

    results = [run.result for run in one.runs.values()]
    first = results[0]
    for run, result in zip(one.runs.values(), results, strict=True):
        for key in ("labels", "metric"):
            if result[key] != first[key]:
                raise InputError(f"{run.folder / VALIDATION}: has another {key} than the first fold; sweep folds alone")
    _check_metric(first["metric"], own_metric)
    scores = instantiate(first["metric"])(labels=LabelTable.from_dict(first["labels"]))
    for result in results:
        scores.add_stored(result)
    scores.sort()
    result = scores.result()
    result["policy"] |= {"cases": _which(one), "checkpoint": first["policy"].get("checkpoint", "–")}
    folds = [{"fold": fold, "run": str(run.folder), **_of_fold(run.result)} for fold, run in one.runs.items()]
    return result | {"folds": folds, "missing": list(one.missing)}, scores


def _check_metric(stored: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise on classes of metrics that the command itself does not name: a stored configuration runs no code."""
    from medseg.metrics.registry import builtin

    plain = stored.get("_target_") == "medseg.metrics.accumulate.CaseScores" and all(
        isinstance(metric, str) and metric in builtin() for metric in stored.get("metrics", [])
    )
    if not plain and stored != own:
        raise InputError(
            "no cross-validation: metric names classes of your own and was varied; vary it in another sweep"
        )


def _of_fold(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a fold shows of its own: its cases, and the summary of its scores."""
    return {"cases": len(list(_cases(result))), "summary": result["summary"]}


def _which(one: CrossValidation) -> str:
    folds = ", ".join(map(str, one.runs))
    lack = f"; {len(one.missing)} cases of other folds have no prediction" if one.missing else ""
    return f"all validation folds ({folds}), each case predicted by the network that did not see it{lack}"


def write(folder: Path, one: CrossValidation, own_metric: Mapping[str, Any]) -> list[str]:
    """Write ``metrics.json``, ``cases.csv`` and ``report.html`` of a cross-validation.

    Args:
        folder: Where they are written; runs are named relative to it.
        one: The cross-validation.
        own_metric: ``cfg.metric`` of the command.

    Returns:
        Lines for the screen.

    Raises:
        InputError: Folds that can't be taken together.
    """
    from medseg.report.cross_validation import lines, write_cross_validation

    result, scores = merged(one, own_metric)
    for fold in result["folds"]:
        fold["run"] = os.path.relpath(fold["run"], folder)
    title = f"Cross-validation{f': {one.name}' if one.name else ''}"
    settings = next(iter(one.runs.values())).settings
    write_cross_validation(folder, result, settings, heading=title, metrics=scores.metrics)
    return [*lines(result, title, scores.metrics), f"In full: {folder / 'report.html'}"]
