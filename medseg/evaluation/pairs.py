"""Predicted and reference label files, paired by name and read as training indices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int

from medseg import formats
from medseg.errors import InputError
from medseg.formats.reoriented import on_axes_of
from medseg.formats.vector import rasterised
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.geometry.tolerance import way_out
from medseg.labels import IGNORE, LabelTable, nearly_integral

_CHANNEL = "_0000"  # nnU-Net's name of the first channel


@dataclass(frozen=True)
class Files:
    """The files of one case.

    Attributes:
        prediction: Label file with saved values.
        label: Label file with raw values, or shapes.
        valid: Field of view, 0 where cells do not count; None if all do.
        image: To draw on; None for black.
    """

    prediction: Path
    label: Path
    valid: Path | None = None
    image: Path | None = None


@dataclass(frozen=True)
class Shapes:
    """How labels that are vectors become cells, on the grid of the prediction.

    Attributes:
        attribute: That holds the class, as its name or its raw value; None: every shape is 1.
        layer: Of files that have several.
        all_touched: Every cell that a shape touches, not only those whose centre lies in it.
    """

    attribute: str | None = None
    layer: str | None = None
    all_touched: bool = False


@dataclass(frozen=True)
class Judged:
    """The cells of one case.

    Attributes:
        pred: Training index of each cell.
        label: Training index of each cell, or ``IGNORE``.
        valid: False outside the field of view, and where there is no prediction.
        reordered: Files of this case that are stored in another order of axes than the label.
        offset: Largest displacement of the grids of the files, in cells.
        grid: Of the label, or of the prediction where the label has lost its georeference.
        labelled: Number of cells in the field of view that have a label.
        unpredicted: How many of these have no prediction.
    """

    pred: Int[np.ndarray, " *s"]
    label: Int[np.ndarray, " *s"]
    valid: Bool[np.ndarray, " *s"]
    grid: Grid
    labelled: int
    unpredicted: int
    reordered: tuple[Path, ...] = ()
    offset: float = 0.0


BURNED = Shapes()
"""Every shape is 1."""


def label_files(folder: Path, *, shapes: bool = False) -> dict[str, Path]:
    """Label files of a folder by stem; other files and subfolders are passed over.

    Args:
        folder: Of rasters and volumes.
        shapes: Take files of shapes as well.

    Raises:
        InputError: No such folder, or two files of one case.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; a folder of label files ({', '.join(formats.suffixes())}) was expected"
        )
    found: dict[str, Path] = {}
    endings = (*formats.suffixes(), *(formats.VECTORS if shapes else ()))
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(endings) or not path.is_file():
            continue
        other = found.setdefault(formats.stem(path), path)
        if other != path:
            raise InputError(f"{folder}: {other.name} and {path.name} are the same case; keep one of them")
    return found


def paired(predictions: Path, labels: Path, missing: str) -> tuple[dict[str, Files], dict[str, list[str]]]:
    """Prediction and label of each case, and the cases that lack one of them.

    Args:
        predictions: Folder of label files.
        labels: Folder of label files, named alike; or one file of shapes that covers every case.
        missing: ``error`` or ``skip``: what becomes of cases that lack one of them.

    Raises:
        InputError: Unpaired files, or no pair.
    """
    if missing not in ("error", "skip"):
        raise InputError(f"got missing={missing}, expected error or skip")
    preds = label_files(predictions)
    one_for_all = labels.is_file() and formats.suffix(labels) in formats.VECTORS
    truths = dict.fromkeys(preds, labels) if one_for_all else label_files(labels, shapes=True)
    orphans = {
        "labels without prediction": sorted(set(truths) - set(preds)),
        "predictions without label": sorted(set(preds) - set(truths)),
    }
    orphans = {kind: names for kind, names in orphans.items() if names}
    if orphans and missing == "error":
        told = "; ".join(f"{len(names)} {kind}: {', '.join(names[:5])}" for kind, names in orphans.items())
        raise InputError(f"{told} ({predictions} against {labels}); add the files, or leave them out with missing=skip")
    pairs = {case: Files(preds[case], truths[case]) for case in truths if case in preds}
    if not pairs:
        raise InputError(f"no case stands in both {predictions} and {labels}; files of a case must be named alike")
    return pairs, orphans


def accompanied(cases: Mapping[str, Files], valid: Path | None, images: Path | None) -> dict[str, Files]:
    """The cases with their fields of view and images, of folders where there are such.

    Raises:
        InputError: A case has none in a folder that is there.
    """
    views = label_files(valid) if valid else {}
    pictures = label_files(images) if images else {}
    made = {}
    for case, files in cases.items():
        if valid and case not in views:
            raise InputError(f"{valid}: no field of view of case {case}; add it, or drop valid")
        image = pictures.get(case) or pictures.get(case + _CHANNEL)
        if images and image is None:
            raise InputError(f"{images}: no image of case {case} ({case} or {case}{_CHANNEL}); add it, or drop images")
        made[case] = replace(files, valid=views.get(case), image=image)
    return made


@dataclass(frozen=True)
class _Raster:
    """A label file that was read.

    Attributes:
        cells: Raw values.
        known: Where there are any.
        grid: Of the cells.
        reordered: Whether the file has its axes in another order.
    """

    cells: npt.NDArray[Any]
    known: Bool[np.ndarray, " *s"]
    grid: Grid
    reordered: bool


def _read_labels(path: Path, expected: Grid | None = None) -> _Raster:
    """A label file, in the axis order of ``expected`` if it is a volume."""
    opened = formats.open(path)
    source = opened if expected is None else on_axes_of(opened, expected)
    cells, known = source.read_valid()
    if cells.shape[0] != 1:
        raise InputError(
            f"{path}: holds {cells.shape[0]} channels, a label file of one was expected; turn colours into class values"
        )
    if source.grid.frame != RAS_MM:
        known = known & ~np.isnan(cells[0])
    return _Raster(cells[0], known, source.grid, source is not opened)


def found_table(cases: Mapping[str, Files], ignore: int | None, *, background: bool) -> LabelTable:
    """A table of the values that stand in the files, each a class of its own, ``class_<value>``.

    Args:
        cases: Whose predictions and labels are read.
        ignore: A value that does not count.
        background: Whether 0 is the background.

    Raises:
        InputError: Values that are not integral, or too many to be classes; shapes.
    """
    found: set[float] = set()
    for path in (path for files in cases.values() for path in (files.prediction, files.label)):
        if formats.suffix(path) in formats.VECTORS:
            raise InputError(
                f"{path}: the labels are shapes, so name their classes: 'names={{ignore: 0, water: 1, reed: 2}}' "
                "(0 is what no shape covers), and by attribute= where the shapes have them"
            )
        found_in = _read_labels(path)
        values = np.unique(nearly_integral(found_in.cells[found_in.known])).tolist()
        if len(values) > 256 or any(v != int(v) for v in values):
            raise InputError(
                f"{path}: holds {len(values)} values from {values[0]} to {values[-1]}, label values expected"
            )
        found |= set(values)
    kept = sorted(int(v) for v in found | ({0} if background else set()) if v != ignore)
    declared = {"background" if background and v == 0 else f"class_{v}": v for v in kept}
    declared |= {} if ignore is None else {"ignore": ignore}
    return LabelTable.declare(declared, background="background" if background else None)


def read(files: Files, table: LabelTable, tolerance: float, shapes: Shapes = BURNED) -> Judged:
    """Read the files of one case.

    Args:
        files: The image apart, which is not read.
        table: Meaning of the values, raw and saved.
        tolerance: Largest displacement between the grids, in cells.
        shapes: How labels that are vectors are read.

    Raises:
        InputError: Other grids, or values outside the table.
    """
    if formats.suffix(files.label) in formats.VECTORS:
        pred = _read_labels(files.prediction)
        values = {c.name: c.values[0] for c in table.classes}
        burned = rasterised(files.label, pred.grid, values=values, **vars(shapes)).read()[0]
        label = _Raster(burned, np.ones(burned.shape, dtype=bool), pred.grid, reordered=False)
    else:
        label = _read_labels(files.label)
        pred = _read_labels(files.prediction, label.grid)
    offset = check_grid(files.prediction, pred.grid, files.label, label.grid, tolerance)
    predicted, wanted = _index(_written(table), pred, files.prediction), _index(table, label, files.label)
    valid = np.ones(wanted.shape, dtype=bool)
    reordered = [files.prediction] if pred.reordered else []
    if files.valid is not None:
        view = _read_labels(files.valid, label.grid)
        offset = max(offset, check_grid(files.valid, view.grid, files.label, label.grid, tolerance))
        valid = (view.cells != 0) & view.known
        reordered += [files.valid] if view.reordered else []
    counted = valid & (wanted != IGNORE)
    absent = predicted == IGNORE
    lost = label.grid.frame == PIXEL and pred.grid.frame != PIXEL
    return Judged(
        predicted, wanted, valid & ~absent, pred.grid if lost else label.grid, int(counted.sum()),
        int((counted & absent).sum()), tuple(reordered), offset,
    )  # fmt: skip


def _written(table: LabelTable) -> LabelTable:
    """The table of predictions: the saved value of each class, and its raw values that no other class saves."""
    saved = {c.saved for c in table.classes}
    classes = [replace(c, values=(c.saved, *(v for v in c.values if v not in saved))) for c in table.classes]
    return replace(table, classes=tuple(classes), ignore_values=())


def _index(table: LabelTable, raster: _Raster, path: Path) -> Int[np.ndarray, " *s"]:
    """Training indices, ``IGNORE`` where nothing is known; a value that the table declares is known."""
    raw, known = raster.cells, raster.known
    if known.all():
        return table.to_index(raw, where=str(path))
    declared = [v for c in table.classes for v in c.values] + list(table.ignore_values)
    unknown = ~known & ~np.isin(raw, declared)
    index = table.to_index(np.where(unknown, raw.dtype.type(declared[0]), raw), where=str(path))
    return np.where(unknown, np.int16(IGNORE), index)


def check_grid(path: Path, grid: Grid, label: Path, expected: Grid, tolerance: float) -> float:
    """Displacement of the cells of two files, in cells.

    One of two scenes may lack its georeference.

    Raises:
        InputError: They are not the same places: another shape, another frame, or displaced beyond the tolerance.
    """
    frames = {grid.frame, expected.frame}
    if grid.shape == expected.shape and PIXEL in frames and RAS_MM not in frames:
        return 0.0
    offset = expected.offset_from(grid)
    if offset <= tolerance:
        return offset
    if np.isfinite(offset):
        raise InputError(
            f"{path}: its grid is {offset:.3g} voxels off (tolerance {tolerance:g} voxels) against {label}; "
            f"{way_out(offset, 'grid_tolerance', model='the label')}"
        )
    if grid.shape != expected.shape:
        grids = f"has shape {grid.shape}, the label {expected.shape}"
    else:
        grids = f"is in the frame {grid.frame[:60]}…, the label in {expected.frame[:60]}…"
    raise InputError(f"{path}: its grid {grids}: compared with {label}; resample it onto the label's grid")
