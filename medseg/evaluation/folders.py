"""Label files scored against label files: no model, no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg._version import __version__
from medseg.data.case import first_five
from medseg.engine.engine import Engine
from medseg.engine.local import LocalEngine
from medseg.errors import InputError
from medseg.evaluation.cells import (
    CasePair,
    check_grid,
    table_from_values,
)
from medseg.evaluation.observers import read_observed
from medseg.evaluation.options import EvaluationOptions
from medseg.evaluation.pairs import EvaluationPair, add_annotated, add_companions, match_files, match_observers
from medseg.evaluation.presets import metric_settings
from medseg.evaluation.score_case import CaseResult, ScoreCase
from medseg.evaluation.scoring import Scoring
from medseg.formats.reoriented import on_axes_of
from medseg.geometry.tolerance import GRID_TOLERANCE
from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores, tables
from medseg.metrics.metric import Metric
from medseg.metrics.observers import ObserverScores
from medseg.metrics.registry import builtin
from medseg.metrics.summary import primary_metric
from medseg.report.html import write_report
from medseg.report.means import means_table
from medseg.report.observers import HEADING, observers_table
from medseg.report.subgroups import subgroup_tables
from medseg.report.titles import title
from medseg.runtime.console import show
from medseg.viz.false_colour import Named
from medseg.viz.figures import overlay_figure, to_png

_LOG = logging.getLogger(__name__)
DEFAULT_OPTIONS = EvaluationOptions()


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        scores: Of the cases that could be scored.
        result: The content of ``metrics.json``.
        failed: Reason of each case that could not.
        report: Ends the evaluation with an InputError if cases failed.
    """

    scores: CaseScores
    result: dict[str, Any]
    failed: Mapping[str, str]
    report: Callable[[], None]


def evaluate_folders(
    predictions: Path,
    labels: Path | Mapping[str, Path],
    output: Path,
    table: LabelTable | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Score every prediction against the label file of the same name.

    Writes ``metrics.json``, ``cases.csv`` and ``report.html`` into ``output``, and prints the means.
    All three are written or none, of every case that could be scored; ``failed`` in them names the others.

    Cells without a label (nodata of the label file) are ignored. Labelled cells without a prediction
    (nodata of the prediction) are not counted, but their share is stated and warned of. A value that
    the table declares is a class even where the file calls it nodata.

    Args:
        predictions: Folder of label files with saved values (``case.nii.gz``, ``scene.tif``, ``photo.png`` …).
        labels: Folder of label files with raw values, or of shapes, named alike; or one file of shapes for all. Of
            several observers one of these by name: ``scores`` are then those of the majority, and ``observers`` those
            against each.
        output: Folder for the results; made if need be.
        table: Meaning of the values. If None, every value found in either folder is a class of its own,
            ``class_<value>``.
        options: How the files are matched, read, scored and drawn.
        engine: Works on the cases; None does it in this process.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: Unpaired files, or no cases; or, at the end, cases with unequal grids, values outside the table or
            files that can't be read.
    """
    with engine or LocalEngine() as workers:
        done = score_folders(predictions, labels, output, table, options, workers)
    done.report()
    return done.result


def score_folders(
    predictions: Path,
    labels: Path | Mapping[str, Path],
    output: Path,
    table: LabelTable | None,
    options: EvaluationOptions,
    workers: Engine,
) -> Evaluation:
    """The same, by an engine that has begun and may serve several evaluations; cases that failed end nothing yet.

    Args:
        predictions: As of ``evaluate_folders``, and the others as well.
        labels: See there.
        output: See there.
        table: See there.
        options: See there.
        workers: Work on the cases.
    """
    matched, left_out, named = match_labels(predictions, labels, options.missing)
    cases = add_annotated(add_companions(matched, options.valid, options.images), options.annotated)
    options.check_groups(list(cases))
    scoring = Scoring(cases, workers, output / "metrics.json")
    table = _label_table(scoring, table, options)
    flat = _is_flat(cases)
    preset = options.preset(flat=flat)
    settings = options.score_settings(preset)
    scores = _case_scores(table, settings)
    results = scoring.scores(ScoreCase(table, settings, options.grid_tolerance, options.shapes), scores)
    _report_grids(results, options.grid_tolerance)
    observers = ObserverScores(scores)
    for of_case in results.values():
        observers.add_stored(of_case.observers or {})
    result = scores.result() | observers.result() | ({"failed": scoring.failed} if scoring.failed else {})
    result["policy"] |= _unscored(results if flat else None)
    result |= options.subgroups(scores)
    read = partial(read_observed, table=table, tolerance=options.grid_tolerance, shapes=options.shapes)
    worst = _worst(result, options.figures, scores.metrics)
    figures = [(case, _draw(cases[case], read(cases[case])[0], table, options.grid_tolerance)) for case in worst]
    facts = {
        "predictions": str(predictions), "labels": named, "field of view": str(options.valid or "none"),
        "cases": len(results), "left out": left_out or "none", "failed": scoring.failed or "none", "scores": preset,
        **_facts_of_table(table), "medseg": __version__,
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
    }  # fmt: skip
    files = {case: _paths(cases[case]) for case in results}
    _write_report(output / "report.html", result, figures, facts, files, scores.metrics)
    show(_LOG, means_table(result))
    return Evaluation(scores, result, scoring.failed, scoring.report)


def values_in(
    predictions: Path, labels: Path | Mapping[str, Path], output: Path, options: EvaluationOptions, workers: Engine
) -> set[int]:
    """The raw values of predictions and labels; the arguments are those of ``score_folders``."""
    matched, *_ = match_labels(predictions, labels, options.missing)
    return Scoring(matched, workers, output / "metrics.json").values()


def match_labels(
    predictions: Path, labels: Path | Mapping[str, Path], missing: str
) -> tuple[dict[str, EvaluationPair], dict[str, list[str]], str]:
    """The files of each case, the cases that lack some, and the labels in words."""
    if not isinstance(labels, Mapping):
        return *match_files(predictions, labels, missing), str(labels)
    named = ", ".join(f"{name}: {path}" for name, path in labels.items())
    return *match_observers(predictions, labels, missing), named


def _write_report(
    path: Path,
    result: Mapping[str, Any],
    figures: Sequence[tuple[str, bytes]],
    facts: Mapping[str, Any],
    files: Mapping[str, Mapping[str, str]],
    metrics: Sequence[Metric],
) -> None:
    """Write the page and the tables next to it, under a heading of the folders that ``facts`` name."""
    predictions, labels = Path(facts["predictions"]), facts["labels"]
    titles = partial(title, metrics=metrics)
    against = " and ".join(result["observers"]["prediction"]) if "observers" in result else Path(labels).name
    write_report(
        path,
        result,
        figures,
        facts,
        heading=f"Evaluation of {predictions.name} against {against}",
        lead=f"{len(files)} cases of {predictions} against {labels}, written {facts['written'][:16].replace('T', ' ')}",
        files=files,
        tables=tables(result),
        sections=[(HEADING, observers_table(result, titles)), ("Scores of groups", subgroup_tables(result, titles))],
        metrics=metrics,
    )


def _is_flat(cases: Mapping[str, EvaluationPair]) -> bool:
    """Whether no label file is a volume."""
    return not any(formats.suffix(files.label) in formats.suffixes("volume") for files in cases.values())


def _label_table(scoring: Scoring, table: LabelTable | None, options: EvaluationOptions) -> LabelTable:
    """The given table with one more ignored value, or one of the values of the files."""
    if table is None:
        return table_from_values(scoring.values(), options.ignore, background=options.background)
    if options.ignore is None or options.ignore in table.ignore_values:
        return table
    return replace(table, ignore_values=(*table.ignore_values, options.ignore))


def _case_scores(table: LabelTable, settings: Mapping[str, Any]) -> CaseScores:
    """The scores, if label files hold what they need."""
    case_scores = CaseScores(table, **settings)
    if case_scores.needs_prob:
        names = ", ".join(metric.name for metric in case_scores.metrics if metric.needs_prob)
        raise InputError(f"metrics: {names} needs probabilities, which label files do not hold; leave it out")
    return case_scores


def _unscored(results: Mapping[str, CaseResult] | None) -> dict[str, str]:
    """What ``policy`` says of metrics that need probabilities, and of cells without a prediction if cases are given."""
    stated = {
        name: f"not there: label files hold no probabilities; a training computes it with metric.{name}=true"
        for name in metric_settings("full")
        if name in builtin() and builtin()[name].needs_prob
    }
    return stated if results is None else stated | {"unpredicted": _unpredicted(results)}


def _facts_of_table(table: LabelTable) -> dict[str, Any]:
    """Classes, regions and ignored values, for the report."""
    classes = {title: list(c.values) for title, c in zip(table.titles, table.classes, strict=True)}
    regions = {region.name: [table.titles[i] for i in region.members] for region in table.regions}
    return {
        "classes": classes,
        **({"regions": regions} if regions else {}),
        "ignored values": list(table.ignore_values),
        "not scored": table.names[0] if table.background else "none",
    }


def _report_grids(results: Mapping[str, CaseResult], tolerance: float) -> None:
    """Report files whose grids are not those of their labels."""
    reordered = [path for result in results.values() for path in result.reordered]
    displaced = [case for case, result in results.items() if result.offset > GRID_TOLERANCE]
    if reordered:
        _LOG.info(
            "%d file(s) have their axes in another order than the label of the case; reordered: %s",
            len(reordered),
            first_five(reordered),
        )
    if displaced:
        _LOG.warning(
            "%d case(s) have grids more than %g voxels apart, taken as one (grid_tolerance=%g): %s",
            len(displaced),
            GRID_TOLERANCE,
            tolerance,
            first_five(displaced),
        )


def _unpredicted(results: Mapping[str, CaseResult]) -> str:
    """How many labelled cells have no prediction; warns if there are any."""
    absent = sum(result.unpredicted for result in results.values())
    labelled = sum(result.labelled for result in results.values())
    if not absent:
        return "every labelled cell has a prediction"
    lacking = [case for case, result in results.items() if result.unpredicted]
    message = (
        f"{100 * absent / labelled:.2g} % of the labelled cells, in {len(lacking)} of {len(results)} cases, have no "
        "prediction and are not counted"
    )
    _LOG.warning("%s: %s", message, ", ".join(lacking[:5]))
    return message


def _worst(result: Mapping[str, Any], number: int, metrics: Sequence[Metric]) -> list[str]:
    """Cases of lowest mean primary metric over their classes, the lowest first."""
    primary = primary_metric(result, metrics)
    by_case: dict[str, list[float]] = {}
    for row in result["cases"]:
        if row.get(primary) is not None:
            by_case.setdefault(row["case"], []).append(row[primary])
    return sorted(by_case, key=lambda case: float(np.mean(by_case[case])))[:number]


def _paths(files: EvaluationPair) -> dict[str, str]:
    paths = {"prediction": files.prediction, "label": files.label, "image": files.image}
    return {kind: str(path) for kind, path in paths.items() if path is not None}


def _draw(files: EvaluationPair, pair: CasePair, table: LabelTable, tolerance: float) -> bytes:
    """Overlay of one case; on black without an image."""
    image, channels, valid = None, [], pair.valid
    if files.image is not None:
        source = on_axes_of(formats.open(files.image), pair.grid)
        check_grid(files.image, source.grid, files.label, pair.grid, tolerance)
        image, inside = source.read_valid()
        channels, valid = [Named(name) for name in source.names], valid & inside
    pred = np.where(pair.pred == IGNORE, 0, pair.pred)
    return to_png(overlay_figure(image, pair.label, pred, table, pair.grid, channels=channels, valid=valid))
