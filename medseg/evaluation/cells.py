"""The cells of a case, read from its predicted and its reference label file as training indices."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int

from medseg import formats
from medseg.errors import InputError
from medseg.evaluation.pairs import EvaluationPair
from medseg.formats.reoriented import on_axes_of
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.geometry.tolerance import way_out
from medseg.labels import IGNORE, LabelTable, nearly_integral


@dataclass(frozen=True)
class RasteriseOptions:
    """How labels that are vectors become cells, on the grid of the prediction; by default every shape is 1.

    Attributes:
        attribute: Attribute that holds the class, as its name or its raw value; None: every shape is 1.
        layer: Layer of a file that has several.
        all_touched: Fill every cell that a shape touches, not only those whose centre lies in it.
    """

    attribute: str | None = None
    layer: str | None = None
    all_touched: bool = False


DEFAULT_RASTERISE = RasteriseOptions()


@dataclass(frozen=True)
class CasePair:
    """The predicted and the labelled cells of one case.

    Attributes:
        pred: Training index of each cell, or ``IGNORE`` where there is no prediction.
        label: Training index of each cell, or ``IGNORE``.
        view: False outside the field of view.
        grid: Grid of the label, or of the prediction where the label has lost its georeference.
        reordered: Files of this case that are stored in another order of axes than the label.
        offset: Largest displacement of the grids of the files, in cells.
    """

    pred: Int[np.ndarray, " *s"]
    label: Int[np.ndarray, " *s"]
    view: Bool[np.ndarray, " *s"]
    grid: Grid
    reordered: tuple[Path, ...] = ()
    offset: float = 0.0

    @property
    def valid(self) -> Bool[np.ndarray, " *s"]:
        """False outside the field of view, and where there is no prediction."""
        return self.view & (self.pred != IGNORE)

    @property
    def labelled(self) -> int:
        """Number of cells in the field of view that have a label."""
        return int((self.view & (self.label != IGNORE)).sum())

    @property
    def unpredicted(self) -> int:
        """How many of these have no prediction."""
        return int((self.view & (self.label != IGNORE) & (self.pred == IGNORE)).sum())


@dataclass(frozen=True)
class _Raster:
    """A label file that was read.

    Attributes:
        cells: Raw values.
        has_value: Where there is a raw value.
        grid: Grid of the cells.
        reordered: Whether the file has its axes in another order.
    """

    cells: npt.NDArray[Any]
    has_value: Bool[np.ndarray, " *s"]
    grid: Grid
    reordered: bool


def _read_labels(path: Path, expected: Grid | None = None) -> _Raster:
    """A label file, in the axis order of ``expected`` if it is a volume."""
    opened = formats.open(path)
    source = opened if expected is None else on_axes_of(opened, expected)
    cells, has_value = source.read_valid()
    if cells.shape[0] != 1:
        raise InputError(
            f"{path}: holds {cells.shape[0]} channels, a label file of one was expected; turn colours into class values"
        )
    if source.grid.frame != RAS_MM:
        has_value = has_value & ~np.isnan(cells[0])
    return _Raster(cells[0], has_value, source.grid, source is not opened)


def table_from_values(values: Collection[int], ignore: int | None, *, background: bool) -> LabelTable:
    """A table of raw values, each a class of its own, ``class_<value>``.

    Args:
        values: Of the files.
        ignore: A value that does not count.
        background: Whether 0 is the background, there or not.
    """
    names = {0: "background"} if background else {}
    declared = {names.get(value, f"class_{value}"): value for value in sorted({*values, *names}) if value != ignore}
    declared |= {} if ignore is None else {"ignore": ignore}
    return LabelTable.declare(declared, background="background" if background else None)


def values_of(path: Path) -> set[int]:
    """The raw values of a label file.

    Raises:
        InputError: Values that are not integral, or too many to be classes; shapes.
    """
    if formats.suffix(path) in formats.VECTORS:
        raise InputError(
            f"{path}: the labels are shapes, so name their classes: 'names={{ignore: 0, water: 1, reed: 2}}' "
            "(0 is what no shape covers), and by attribute= where the shapes have them"
        )
    raster = _read_labels(path)
    values = np.unique(nearly_integral(raster.cells[raster.has_value])).tolist()
    if len(values) > 256 or any(v != int(v) for v in values):
        raise InputError(f"{path}: holds {len(values)} values from {values[0]} to {values[-1]}, label values expected")
    return {int(v) for v in values}


def read_pair(
    files: EvaluationPair, table: LabelTable, tolerance: float, shapes: RasteriseOptions = DEFAULT_RASTERISE
) -> CasePair:
    """Read the files of one case.

    Args:
        files: Files of the case; the image is not read.
        table: Meaning of the values, raw and saved.
        tolerance: Largest displacement between the grids, in cells.
        shapes: How labels that are vectors are read.

    Raises:
        InputError: Other grids, or values outside the table.
    """
    if formats.suffix(files.label) in formats.VECTORS:
        from medseg.formats.vector import rasterised  # here, as it imports pandas, which few files need

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
        valid = (view.cells != 0) & view.has_value
        reordered += [files.valid] if view.reordered else []
    lost = label.grid.frame == PIXEL and pred.grid.frame != PIXEL
    return CasePair(predicted, wanted, valid, pred.grid if lost else label.grid, tuple(reordered), offset)


def _written(table: LabelTable) -> LabelTable:
    """The table of predictions: the saved value of each class, and its raw values that no other class saves."""
    saved = {c.saved for c in table.classes}
    classes = [replace(c, values=(c.saved, *(v for v in c.values if v not in saved))) for c in table.classes]
    return replace(table, classes=tuple(classes), ignore_values=())


def _index(table: LabelTable, raster: _Raster, path: Path) -> Int[np.ndarray, " *s"]:
    """Training indices, ``IGNORE`` without a value; one that the table declares is a value even if it is nodata."""
    raw, has_value = raster.cells, raster.has_value
    if has_value.all():
        return table.to_index(raw, where=str(path))
    declared = [v for c in table.classes for v in c.values] + list(table.ignore_values)
    no_value = ~has_value & ~np.isin(raw, declared)
    index = table.to_index(np.where(no_value, raw.dtype.type(declared[0]), raw), where=str(path))
    return np.where(no_value, np.int16(IGNORE), index)


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
