"""Judge label files against label files: no model, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import medseg
from medseg import formats
from medseg.errors import BadInput
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable
from medseg.metrics.accumulate import METRICS, CaseScores, write
from medseg.report.figures import overlay_figure, to_png
from medseg.report.html import show, write_report

_CHANNEL = "_0000"  # nnU-Net's name of the first channel


def evaluate_folders(
    predictions: Path,
    labels: Path,
    output: Path,
    table: LabelTable | None = None,
    *,
    images: Path | None = None,
    ignore: int | None = None,
    metrics: Sequence[str] = METRICS,
    nsd_tolerance: float = 1.0,
    missing: str = "error",
    grid_tolerance: float = 0.05,
    figures: int = 4,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score every prediction against the label file of the same name.

    Writes ``metrics.json``, ``cases.csv`` and ``report.html`` into ``output``, and prints the means.
    Nothing is written unless every case could be scored.

    Args:
        predictions: Folder of label files with saved values (``case.nii.gz`` …).
        labels: Folder of label files with raw values, named alike.
        output: Folder for the results; made if need be.
        table: Meaning of the values. If None, every value found in either folder is a class of its own,
            ``class_<value>``, and 0 is the background.
        images: Folder of images to draw the figures on (``case`` or nnU-Net's ``case_0000``).
        ignore: One more raw value of the labels that does not count.
        metrics: Some of ``METRICS``.
        nsd_tolerance: Surface distance that is no error, in the unit of the grids.
        missing: What a label without prediction or a prediction without label is: ``error``, or ``skip``
            to leave it out (the report lists them).
        grid_tolerance: Largest displacement between the two grids of a case, in voxels.
        figures: Number of cases drawn, those of lowest mean Dice first.
        resamples: Draws behind each confidence interval.
        seed: Of the draws.

    Returns:
        The content of ``metrics.json``.

    Raises:
        BadInput: Unpaired files, unequal grids, values outside the table, or no cases.
    """
    pairs, left_out = _pairs(Path(predictions), Path(labels), missing)
    if table is None:
        table = _found_table(pairs, ignore)
    elif ignore is not None and ignore not in table.ignore_values:
        table = replace(table, ignore_values=(*table.ignore_values, ignore))
    scores = CaseScores(table, metrics=metrics, nsd_tolerance=nsd_tolerance, resamples=resamples, seed=seed)
    for case, (pred_path, label_path) in pairs.items():
        pred, label, grid = _read_pair(pred_path, label_path, table, grid_tolerance)
        valid = np.ones(label.shape, dtype=bool)
        scores.add(case, pred, label, valid, spacing=grid.spacing, unit=grid.unit)
    result = scores.result()
    drawn = [
        (case, _draw(case, pairs[case], table, Path(images) if images else None, grid_tolerance))
        for case in _worst(result, figures)
    ]
    facts = {
        "predictions": str(predictions), "labels": str(labels), "cases": len(pairs), "left out": left_out or "none",
        "classes": {c.name: list(c.values) for c in table.classes}, "ignored values": list(table.ignore_values),
        "medseg": medseg.__version__, "written": datetime.now().astimezone().isoformat(timespec="seconds"),
    }  # fmt: skip
    write(Path(output), result)
    write_report(Path(output) / "report.html", result, drawn, facts, title="Evaluation")
    Console(highlight=False).print(means_table(result))
    return result


def means_table(result: Mapping[str, Any]) -> Table:
    """Means, class by metric, and how many cases entered them; the last row is the summary."""
    metrics = list(result["summary"])
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("class", overflow="fold")
    for name in ("cases", *metrics):
        table.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)
    for name, by in [*result["classes"].items(), ("mean", result["summary"])]:
        entered = sorted({by[m]["cases"] for m in metrics})
        table.add_row(name, " to ".join(map(str, entered)), *(show(by[m]["mean"]) for m in metrics))
    return table


def _files(folder: Path) -> dict[str, Path]:
    """Label files of a folder by stem; other files and subfolders are passed over."""
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: no such folder; a folder of label files ({', '.join(formats.SUFFIXES)}) was expected"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(formats.SUFFIXES) or not path.is_file():
            continue
        other = found.setdefault(formats.stem(path), path)
        if other != path:
            raise BadInput(f"{folder}: {other.name} and {path.name} are the same case; keep one of them")
    return found


def _pairs(predictions: Path, labels: Path, missing: str) -> tuple[dict[str, tuple[Path, Path]], dict[str, list[str]]]:
    """(prediction, label) of each case, and the cases that lack one of them."""
    if missing not in ("error", "skip"):
        raise BadInput(f"missing={missing} came, expected error or skip")
    preds, truths = _files(predictions), _files(labels)
    orphans = {
        "labels without prediction": sorted(set(truths) - set(preds)),
        "predictions without label": sorted(set(preds) - set(truths)),
    }
    orphans = {kind: names for kind, names in orphans.items() if names}
    if orphans and missing == "error":
        told = "; ".join(f"{len(names)} {kind}: {', '.join(names[:5])}" for kind, names in orphans.items())
        raise BadInput(f"{told} ({predictions} against {labels}); add the files, or leave them out with missing=skip")
    pairs = {case: (preds[case], truths[case]) for case in truths if case in preds}
    if not pairs:
        raise BadInput(f"no case stands in both {predictions} and {labels}; files of a case must be named alike")
    return pairs, orphans


def _read_labels(path: Path) -> tuple[npt.NDArray[Any], Grid]:
    """Raw values ``[*s]`` and the grid of a label file."""
    source = formats.open(path)
    cells = source.read()
    if cells.shape[0] != 1:
        raise BadInput(f"{path}: holds {cells.shape[0]} channels, a label file of one was expected")
    return cells[0], source.grid


def _found_table(pairs: Mapping[str, tuple[Path, Path]], ignore: int | None) -> LabelTable:
    """A table of the values that stand in the files."""
    found: set[float] = set()
    for path in (path for pair in pairs.values() for path in pair):
        values = np.unique(_read_labels(path)[0]).tolist()
        if len(values) > 256 or any(v != int(v) for v in values):
            raise BadInput(
                f"{path}: holds {len(values)} values from {values[0]} to {values[-1]}, label values expected"
            )
        found |= set(values)
    declared = {"background": 0} | {f"class_{int(v)}": int(v) for v in sorted(found) if v not in (0, ignore)}
    return LabelTable.declare(declared if ignore is None else declared | {"ignore": ignore})


def _read_pair(
    pred_path: Path, label_path: Path, table: LabelTable, grid_tolerance: float
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], Grid]:
    """Training indices of prediction and label, and the label's grid."""
    pred, pred_grid = _read_labels(pred_path)
    label, grid = _read_labels(label_path)
    offset = grid.offset_from(pred_grid)
    if not offset <= grid_tolerance:
        came = (
            f"is {offset:.3g} voxels off"
            if np.isfinite(offset)
            else f"has shape {pred_grid.shape}, the label {grid.shape}"
        )
        raise BadInput(
            f"{pred_path}: its grid {came} (tolerance {grid_tolerance:g} voxels) against {label_path}; "
            "resample it onto the label's grid"
        )
    written = replace(table, classes=tuple(replace(c, values=(c.saved,)) for c in table.classes), ignore_values=())
    return written.to_index(pred, where=str(pred_path)), table.to_index(label, where=str(label_path)), grid


def _worst(result: Mapping[str, Any], number: int) -> list[str]:
    """Cases of lowest mean Dice over their classes, the lowest first."""
    by_case: dict[str, list[float]] = {}
    for row in result["cases"]:
        if row.get("dice") is not None:
            by_case.setdefault(row["case"], []).append(row["dice"])
    return sorted(by_case, key=lambda case: float(np.mean(by_case[case])))[:number]


def _draw(case: str, pair: tuple[Path, Path], table: LabelTable, images: Path | None, grid_tolerance: float) -> bytes:
    """Overlay of one case; on black if no image of its grid is found."""
    pred, label, grid = _read_pair(*pair, table, grid_tolerance)
    image = None
    if images is not None:
        found = _files(images)
        path = found.get(case) or found.get(case + _CHANNEL)
        if path is None:
            raise BadInput(f"{images}: no image of case {case} ({case} or {case}{_CHANNEL}); mend it or drop images")
        source = formats.open(path)
        if source.grid.offset_from(grid) > grid_tolerance:
            raise BadInput(f"{path}: its grid is not that of the label {pair[1]}; mend it or drop images")
        image = source.read()[0]
    return to_png(overlay_figure(image, label, pred, table, grid, title=case))
