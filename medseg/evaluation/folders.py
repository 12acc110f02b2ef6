"""Judge label files against label files: no model, no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from medseg import formats
from medseg._version import __version__
from medseg.data.case import first_five
from medseg.errors import InputError
from medseg.evaluation.pairs import BURNED, Files, Shapes, accompanied, check_grid, found_table, paired, read
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
    shapes: Shapes = BURNED,
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
    if scores not in ("auto", *_PRESETS):
        raise InputError(f"got scores={scores}, expected auto, {' or '.join(_PRESETS)}")
    checked_tolerance(grid_tolerance, "grid_tolerance")
    cases, left_out = paired(Path(predictions), Path(labels), missing)
    cases = accompanied(cases, Path(valid) if valid else None, Path(images) if images else None)
    if table is None:
        table = found_table(cases, ignore, background=background)
    elif ignore is not None and ignore not in table.ignore_values:
        table = replace(table, ignore_values=(*table.ignore_values, ignore))
    flat = not any(formats.suffix(files.label) in formats.suffixes("volume") for files in cases.values())
    chosen = scores if scores != "auto" else "scene" if flat else "full"
    if metrics is not None:
        settings["metrics"] = metrics
    gathered = CaseScores(table, **metric_settings(chosen) | settings)
    if gathered.needs_prob:
        names = ", ".join(metric.name for metric in gathered.metrics if metric.needs_prob)
        raise InputError(f"metrics: {names} needs probabilities, which label files do not hold; leave it out")
    lacking: dict[str, tuple[int, int]] = {}
    reordered: list[str] = []
    displaced: list[str] = []
    for case, files in watched(cases.items(), "judging", so_far=gathered.glance):
        judged = read(files, table, grid_tolerance, shapes)
        grid = judged.grid
        reordered += [str(path) for path in judged.reordered]
        displaced += [case] if judged.offset > GRID_TOLERANCE else []
        gathered.add(case, judged.pred, judged.label, judged.valid, spacing=grid.spacing, unit=grid.unit)
        lacking[case] = (judged.unpredicted, judged.labelled)
    _report_grids(reordered, displaced, grid_tolerance)
    result = gathered.result()
    for name in (name for name, cls in builtin().items() if cls.needs_prob):
        result["policy"][name] = (
            f"not there: label files hold no probabilities; a training judges it with metric.{name}=true"
        )
    if flat:
        result["policy"]["unpredicted"] = _told_unpredicted(lacking)
    drawn = [
        (case, _draw(cases[case], table, grid_tolerance, shapes)) for case in _worst(result, figures, gathered.metrics)
    ]
    written = datetime.now().astimezone().isoformat(timespec="seconds")
    facts = {
        "predictions": str(predictions), "labels": str(labels), "field of view": str(valid) if valid else "none",
        "cases": len(cases), "left out": left_out or "none", "scores": chosen,
        "classes": {title: list(c.values) for title, c in zip(table.titles, table.classes, strict=True)},
        **({"regions": {r.name: [table.titles[i] for i in r.members] for r in table.regions}} if table.regions else {}),
        "ignored values": list(table.ignore_values),
        "not scored": table.names[0] if table.background else "none", "medseg": __version__,
        "written": written,
    }  # fmt: skip
    heading = f"Evaluation of {Path(predictions).name} against {Path(labels).name}"
    lead = f"{len(cases)} cases of {predictions} against {labels}, written {written[:16].replace('T', ' ')}"
    paths = {case: _paths(files) for case, files in cases.items()}
    further = tables(result)
    report = Path(output) / "report.html"
    write_report(
        report, result, drawn, facts, heading=heading, lead=lead, files=paths, tables=further, metrics=gathered.metrics
    )
    show(_LOG, means_table(result))
    return result


def _report_grids(reordered: Sequence[str], displaced: Sequence[str], tolerance: float) -> None:
    """Say which files had to be brought together with their labels."""
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


def _told_unpredicted(lacking: Mapping[str, tuple[int, int]]) -> str:
    """How much has no prediction; warns if there is any."""
    absent, labelled = (sum(counts) for counts in zip(*lacking.values(), strict=True))
    cases = [case for case, (cells, _) in lacking.items() if cells]
    if not absent:
        return "every labelled cell has a prediction"
    told = (
        f"{100 * absent / labelled:.2g} % of the labelled cells, in {len(cases)} of {len(lacking)} cases, have no "
        "prediction and are not counted"
    )
    _LOG.warning("%s: %s", told, ", ".join(cases[:5]))
    return told


def _worst(result: Mapping[str, Any], number: int, metrics: Sequence[Metric]) -> list[str]:
    """Cases of lowest mean Dice (or IoU …) over their classes, the lowest first."""
    leading = primary_metric(result, metrics)
    by_case: dict[str, list[float]] = {}
    for row in result["cases"]:
        if row.get(leading) is not None:
            by_case.setdefault(row["case"], []).append(row[leading])
    return sorted(by_case, key=lambda case: float(np.mean(by_case[case])))[:number]


def _paths(files: Files) -> dict[str, str]:
    found = {"prediction": files.prediction, "label": files.label, "image": files.image}
    return {kind: str(path) for kind, path in found.items() if path is not None}


def _draw(files: Files, table: LabelTable, tolerance: float, shapes: Shapes) -> bytes:
    """Overlay of one case; on black without an image."""
    judged = read(files, table, tolerance, shapes)
    image, channels, known = None, [], judged.valid
    if files.image is not None:
        source = on_axes_of(formats.open(files.image), judged.grid)
        check_grid(files.image, source.grid, files.label, judged.grid, tolerance)
        image, there = source.read_valid()
        channels, known = [Named(name) for name in source.names], known & there
    pred = np.where(judged.pred == IGNORE, 0, judged.pred)
    return to_png(overlay_figure(image, judged.label, pred, table, judged.grid, channels=channels, valid=known))
