"""Label files scored against label files: no model, no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg._version import __version__
from medseg.data.case import first_five
from medseg.errors import InputError
from medseg.evaluation.cells import (
    DEFAULT_RASTERISE,
    CasePair,
    RasteriseOptions,
    check_grid,
    read_pair,
    table_from_values,
)
from medseg.evaluation.pairs import EvaluationPair, add_companions, match_files
from medseg.evaluation.presets import metric_settings
from medseg.formats.reoriented import on_axes_of
from medseg.geometry.tolerance import GRID_TOLERANCE, checked_tolerance
from medseg.labels import IGNORE, LabelTable
from medseg.metrics.accumulate import CaseScores, tables
from medseg.metrics.metric import Metric
from medseg.metrics.registry import Entry, builtin
from medseg.metrics.summary import primary_metric
from medseg.report.html import write_report
from medseg.report.means import means_table
from medseg.runtime.console import show
from medseg.runtime.progress import watched
from medseg.viz.false_colour import Named
from medseg.viz.figures import overlay_figure, to_png

_LOG = logging.getLogger(__name__)
_PRESETS = ("full", "scene")
"""Options of ``conf/metric`` that label files can be scored with."""


def evaluate_folders(
    predictions: Path,
    labels: Path,
    output: Path,
    table: LabelTable | None = None,
    *,
    images: Path | None = None,
    valid: Path | None = None,
    ignore: int | None = None,
    background: bool = True,
    scores: str = "auto",
    metrics: Sequence[Entry] | None = None,
    missing: str = "error",
    grid_tolerance: float = GRID_TOLERANCE,
    shapes: RasteriseOptions = DEFAULT_RASTERISE,
    figures: int = 4,
    **settings: Any,
) -> dict[str, Any]:
    """Score every prediction against the label file of the same name.

    Writes ``metrics.json``, ``cases.csv`` and ``report.html`` into ``output``, and prints the means.
    All three are written or none, after every case could be scored.

    Cells without a label (nodata of the label file) are ignored. Labelled cells without a prediction
    (nodata of the prediction) are not counted, but their share is stated and warned of. A value that
    the table declares is a class even where the file calls it nodata.

    Args:
        predictions: Folder of label files with saved values (``case.nii.gz``, ``scene.tif``, ``photo.png`` …).
        labels: Folder of label files with raw values, or of shapes, named alike; or one file of shapes for all.
        output: Folder for the results; made if need be.
        table: Meaning of the values. If None, every value found in either folder is a class of its own,
            ``class_<value>``.
        images: Folder of images to draw the figures on (``case`` or nnU-Net's ``case_0000``).
        valid: Folder of fields of view, named alike: cells where they are 0 do not count.
        ignore: One more raw value of the labels that does not count.
        background: Without a table, whether 0 is the background.
        scores: ``full`` (volumes: overlap and distances, means over cases), ``scene`` (overlap of the
            cells of all cases together), or ``auto``: scene if the files have two axes.
        metrics: What is scored instead of the metrics of that option; see ``metrics.registry.resolve``.
        missing: What a label without prediction or a prediction without label is: ``error``, or ``skip``
            to leave it out (the report lists them).
        grid_tolerance: Largest displacement between the two grids of a case, in voxels; at most 1.
        shapes: How labels that are vectors are read, on the grids of the predictions.
        figures: Number of cases drawn, the worst ones.
        settings: Settings of ``CaseScores`` that replace those of the option, such as ``nsd_tolerance``.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: Unpaired files, unequal grids, values outside the table, or no cases.
    """
    _preset(scores, flat=False)  # before files are looked for
    checked_tolerance(grid_tolerance, "grid_tolerance")
    cases, left_out = match_files(Path(predictions), Path(labels), missing)
    cases = add_companions(cases, Path(valid) if valid else None, Path(images) if images else None)
    table = _label_table(cases, table, ignore, background=background)
    flat = not any(formats.suffix(files.label) in formats.suffixes("volume") for files in cases.values())
    preset = _preset(scores, flat=flat)
    settings |= {} if metrics is None else {"metrics": metrics}
    case_scores = _case_scores(table, metric_settings(preset) | settings)
    read = partial(read_pair, table=table, tolerance=grid_tolerance, shapes=shapes)
    unpredicted = _score_cases(cases, read, case_scores, grid_tolerance)
    result = case_scores.result()
    result["policy"] |= _unscored(unpredicted if flat else None)
    worst = _worst(result, figures, case_scores.metrics)
    drawn = [(case, _draw(cases[case], read(cases[case]), table, grid_tolerance)) for case in worst]
    written = datetime.now().astimezone().isoformat(timespec="seconds")
    facts = {
        "predictions": str(predictions), "labels": str(labels), "field of view": str(valid) if valid else "none",
        "cases": len(cases), "left out": left_out or "none", "scores": preset, **_facts_of_table(table),
        "medseg": __version__, "written": written,
    }  # fmt: skip
    write_report(
        Path(output) / "report.html",
        result,
        drawn,
        facts,
        heading=f"Evaluation of {Path(predictions).name} against {Path(labels).name}",
        lead=f"{len(cases)} cases of {predictions} against {labels}, written {written[:16].replace('T', ' ')}",
        files={case: _paths(files) for case, files in cases.items()},
        tables=tables(result),
        metrics=case_scores.metrics,
    )
    show(_LOG, means_table(result))
    return result


def _preset(scores: str, *, flat: bool) -> str:
    """The option of ``conf/metric`` that ``scores`` stands for."""
    if scores not in ("auto", *_PRESETS):
        raise InputError(f"got scores={scores}, expected auto, {' or '.join(_PRESETS)}")
    if scores != "auto":
        return scores
    return "scene" if flat else "full"


def _label_table(
    cases: Mapping[str, EvaluationPair], table: LabelTable | None, ignore: int | None, *, background: bool
) -> LabelTable:
    """The given table with one more ignored value, or one of the values of the files."""
    if table is None:
        return table_from_values(cases, ignore, background=background)
    if ignore is None or ignore in table.ignore_values:
        return table
    return replace(table, ignore_values=(*table.ignore_values, ignore))


def _case_scores(table: LabelTable, settings: Mapping[str, Any]) -> CaseScores:
    """The scores, if label files hold what they need."""
    case_scores = CaseScores(table, **settings)
    if case_scores.needs_prob:
        names = ", ".join(metric.name for metric in case_scores.metrics if metric.needs_prob)
        raise InputError(f"metrics: {names} needs probabilities, which label files do not hold; leave it out")
    return case_scores


def _score_cases(
    cases: Mapping[str, EvaluationPair],
    read: Callable[[EvaluationPair], CasePair],
    case_scores: CaseScores,
    tolerance: float,
) -> dict[str, tuple[int, int]]:
    """Score every case, and report files on other grids.

    Returns:
        Labelled cells without a prediction, and labelled cells, of each case.
    """
    unpredicted: dict[str, tuple[int, int]] = {}
    reordered: list[str] = []
    displaced: list[str] = []
    for case, files in watched(cases.items(), "evaluating", so_far=case_scores.glance):
        pair = read(files)
        reordered += [str(path) for path in pair.reordered]
        displaced += [case] if pair.offset > GRID_TOLERANCE else []
        case_scores.add(case, pair.pred, pair.label, pair.valid, spacing=pair.grid.spacing, unit=pair.grid.unit)
        unpredicted[case] = (pair.unpredicted, pair.labelled)
    _report_grids(reordered, displaced, tolerance)
    return unpredicted


def _unscored(unpredicted: Mapping[str, tuple[int, int]] | None) -> dict[str, str]:
    """What ``policy`` says of metrics that need probabilities, and of cells without a prediction if these are given."""
    stated = {
        name: f"not there: label files hold no probabilities; a training computes it with metric.{name}=true"
        for name, cls in builtin().items()
        if cls.needs_prob
    }
    return stated if unpredicted is None else stated | {"unpredicted": _unpredicted(unpredicted)}


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


def _report_grids(reordered: Sequence[str], displaced: Sequence[str], tolerance: float) -> None:
    """Report files whose grids are not those of their labels."""
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


def _unpredicted(cases: Mapping[str, tuple[int, int]]) -> str:
    """How many labelled cells have no prediction; warns if there are any."""
    absent, labelled = (sum(counts) for counts in zip(*cases.values(), strict=True))
    if not absent:
        return "every labelled cell has a prediction"
    lacking = [case for case, (cells, _) in cases.items() if cells]
    message = (
        f"{100 * absent / labelled:.2g} % of the labelled cells, in {len(lacking)} of {len(cases)} cases, have no "
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
