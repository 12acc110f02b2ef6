"""CaseReader: the files of a case, checked against the declaration of the dataset; read complete or in windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg import formats
from medseg.data.case import Case
from medseg.data.reading.channels import Bands
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.formats.aligned import aligned
from medseg.formats.colours import ColourMask
from medseg.formats.georeference import same_frame
from medseg.formats.reoriented import on_axes_of
from medseg.formats.source import Source
from medseg.formats.vector import rasterised
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.geometry.tolerance import GRID_TOLERANCE, way_out
from medseg.labels import IGNORE, LabelTable, nearly_integral
from medseg.sample import DataSpec, Sample, evenly_spaced, in_slots

_ROUNDED = "label values are not quite integers and were rounded"
_SHEARED = "axes are not at right angles (sheared affine): rotations and distances take them as if they were"


class CaseReader:
    """One case whose headers have been read and checked; cells are read on demand.

    A volume of a single or few slices is read like any other: patches pad it. So is a case without any
    foreground, which teaches the background. Float label files are accepted where the values are integral.

    Attributes:
        case: The case.
        grid: Of its first image file, cut to ``case.box``.
        days: Of a time series, its dates that are read, in days since 1970-01-01; else empty.
        notes: What was done to bring its files together that their owner may want to know.
        warnings: What is doubtful about its files, each in words that are the same for every case.

    Args:
        case: With or without a label.
        spec: What the dataset declares.
        reading: How strictly.
        sources: The image files, where they are opened already (tiles as one ``Mosaic``).
        label: Likewise the label file.

    Raises:
        InputError: Another number of channels or axes than declared, missing bands, files on different
            grids, dates where none are declared or none where they are; and whatever a damaged file raises when
            it is opened.
    """

    def __init__(
        self,
        case: Case,
        spec: DataSpec,
        reading: ReadOptions,
        *,
        sources: Sequence[Source] | None = None,
        label: Source | None = None,
    ) -> None:
        self.case, self.spec, self.reading = case, spec, reading
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._check_dates()
        kept = evenly_spaced(len(case.days), spec.dates) if spec.dates else [0]
        self.days = tuple(case.days[i] for i in kept) if spec.dates else ()
        opened = self._opened(kept) if sources is None else [(case.images, list(sources))]
        self._whole = opened[0][1][0].grid
        self._collect_warnings(source for _, part in opened for source in part)
        if self._whole.ndim != spec.ndim:
            raise InputError(
                f"case {case.id}: image {case.images[0]} has {self._whole.ndim} spatial axes (shape "
                f"{self._whole.shape}), expected {spec.ndim}; a further axis of channels needs its names in the dataset"
            )
        if case.box is not None and case.box.clip(self._whole.shape) != case.box:
            raise InputError(f"case {case.id}: its box {case.box} is not inside the image {self._whole.shape}")
        self.box = case.box or Box.whole(self._whole.shape)
        self.grid = self._whole if case.box is None else self._whole.crop(case.box)
        placed = [(files, [self._placed(source, "linear") for source in part]) for files, part in opened]
        where, dates = f"case {case.id}", len(case.days)
        if case.in_file:
            ((files, whole),) = placed
            self._bands = [Bands(where, files, whole, spec, reading, part=(i, dates)) for i in kept]
        else:
            self._bands = [Bands(where, files, part, spec, reading) for files, part in placed]
        self._label = None if case.label is None else self._open_label(case.label, label)
        self._valid = None if case.valid is None else self._placed(formats.open(case.valid), "nearest")

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return self.grid.shape

    def read(self, box: Box | None = None) -> Sample:
        """The case, or the window ``box`` of it, raw: in the files' own units.

        Cells without data are 0 and not valid; where the label has none, it is ``IGNORE``. In a time series
        cells without data are NaN, and valid if any date has data.

        Raises:
            InputError: Unknown label values, NaN cells where they are refused, or a damaged file.
        """
        grid = self.grid if box is None else self.grid.crop(box)
        window = self.box if box is None else box.shift(self.box.start)
        image, valid = self._read_series(window) if self.days else self._bands[0].read(window)
        if self._valid is not None:
            inside, known = self._valid.read_valid(window)
            valid &= (inside[0] != 0) & known
            image[..., ~valid] = np.nan if self.days else 0
        label = None if self._label is None else self._read_label(self._label, window)
        series: dict[str, Any] = {}
        if self.days:
            image, days, present = in_slots(image, self.days, self.spec.dates)
            series = {"days": days, "present": present}
        return Sample(image, label, valid, grid, self.case.id, self.case.group, **series)

    def _read_series(self, window: Box) -> tuple[Float[np.ndarray, "n c *s"], Bool[np.ndarray, " *s"]]:
        """Every date that is read, NaN where it has no data, and where any date has."""
        shape = (len(self._bands), len(self.spec.channels), *window.shape)
        image = np.full(shape, np.nan, dtype=np.float32)
        valid = np.zeros(window.shape, dtype=bool)
        for date, bands in zip(image, self._bands, strict=True):
            cells, known = bands.read(window)
            np.copyto(date, cells, where=known)
            valid |= known
        return image, valid

    def _check_dates(self) -> None:
        case, slots = self.case, self.spec.dates
        if bool(slots) != bool(case.days):
            raise InputError(
                f"case {case.id}: {len(case.days) or 'no'} dates in {case.images[0]}, "
                + (f"expected a time series of up to {slots}" if slots else "where no time axis was declared")
                + "; data.dates says how dates lie in files"
            )
        if case.days and len(case.days) > slots:
            self.notes.append(f"case {case.id}: of its {len(case.days)} dates {slots} evenly spaced ones are read")

    def _opened(self, kept: Sequence[int]) -> list[tuple[tuple[Path, ...], list[Source]]]:
        """Image files of each date that is kept; one list where files hold all dates, or there are none.

        GDAL takes the last of four bands of bytes for alpha, unless it is told their meaning.
        """
        case = self.case
        each = len(case.images) // (1 if case.in_file or not case.days else len(case.days))
        dates = [case.images[i * each : (i + 1) * each] for i in ([0] if case.in_file else kept)]
        needed = len(self.reading.bands) or len([c for c in self.spec.channels if not c.formula])
        needed *= len(case.days) if case.in_file else 1
        opened = []
        for files in dates:
            sources = [formats.open(path) for path in files]
            if sum(source.n_channels for source in sources) == needed - 1:
                sources = [formats.open(path, alpha=False) for path in files]
            opened.append((files, sources))
        return opened

    def _open_label(self, path: Path, opened: Source | None) -> Source:
        if opened is None and formats.suffix(path) in formats.VECTORS:
            values = {c.name: c.values[0] for c in self.spec.labels.classes}
            attribute, layer, all_touched = self.reading.attribute, self.reading.layer, self.reading.all_touched
            return rasterised(
                path, self._whole, attribute=attribute, layer=layer, values=values, all_touched=all_touched
            )
        source = opened or formats.open(path)
        self._collect_warnings([source])
        if self.reading.mask_colours:
            source = ColourMask(source, self.reading.mask_colours, self.spec.labels)
        if source.n_channels != 1:
            raise InputError(
                f"case {self.case.id}: label {path} has {source.n_channels} channels, expected 1 with a class value in "
                "each voxel; merge overlapping masks into one label file, with a value of its own for each overlap"
            )
        return self._placed(_DeclaredLabels(source, self.spec.labels), "nearest")

    def _placed(self, source: Source, order: Literal["nearest", "linear"]) -> Source:
        """The file on the grid of the case's first image."""
        reference, reading = self._whole, self.reading
        turned = on_axes_of(source, reference)
        grid = turned.grid
        where = f"case {self.case.id}: {source.path} does not lie on the grid of {self.case.images[0]}"
        if grid.shape == reference.shape and grid.frame == PIXEL and reference.frame != RAS_MM:
            return source  # a mask without a georeference
        scene = reference.frame not in (RAS_MM, PIXEL) and grid.frame not in (RAS_MM, PIXEL)
        if scene and not same_frame(grid.frame, reference.frame):
            if reading.other_crs == "warp":
                self.notes.append(f"{where}: warped from {crs_name(grid.frame)} to {crs_name(reference.frame)}")
                return aligned(source, reference, order=order)
            own, expected = (crs_name(g.frame) for g in (grid, reference))
            raise InputError(
                f"{where}: its CRS is {own}, expected {expected}; data.other_crs=warp warps it as it is read"
            )
        comparable = scene or grid.frame == reference.frame
        offset = Grid(grid.shape, grid.affine, reference.frame).offset_from(reference) if comparable else np.inf
        if offset <= reading.grid_tolerance:
            return self._accepted(source, turned, offset)
        if scene and reading.other_grid == "align":
            moved = f"its shape is {grid.shape}" if not np.isfinite(offset) else f"it lies {offset:.3g} cells off"
            self.notes.append(f"{where}: {moved}; aligned to the {order} cells")
            return aligned(source, reference, order=order)
        if not np.isfinite(offset):
            own, expected = (f"shape {g.shape} in {crs_name(g.frame)}" for g in (source.grid, reference))
            raise InputError(
                f"{where}: {own}, expected {expected}; resample it onto that grid, or check that the files belong "
                "together"
            )
        arranged = "" if turned is source else f" with its axes in the order {reference.orientation}"
        raise InputError(
            f"{where}: displaced by up to {offset:.3g} voxels{arranged}, allowed are {reading.grid_tolerance:g}; "
            f"{way_out(offset, 'data.grid_tolerance')}"
        )

    def _accepted(self, source: Source, turned: Source, offset: float) -> Source:
        """A file whose cells are those of the first image, in its order of axes; says what had to be overlooked."""
        if turned is not source:
            self.notes.append(
                f"case {self.case.id}: {source.path} is stored in axis order {source.grid.orientation}; reordered to "
                f"{self._whole.orientation}, that of {self.case.images[0]}"
            )
        if offset > GRID_TOLERANCE:
            self.warnings.append(
                f"files that lie more than {GRID_TOLERANCE:g} cells apart are taken as one "
                f"(data.grid_tolerance={self.reading.grid_tolerance:g})"
            )
        return turned

    def _collect_warnings(self, sources: Iterable[Source]) -> None:
        """Keep what is doubtful about files."""
        for source in sources:
            sheared = [_SHEARED] if source.grid.sheared else []
            self.warnings += [text for text in (*source.warnings, *sheared) if text not in self.warnings]

    def _read_label(self, label: Source, window: Box) -> Int[np.ndarray, " *s"]:
        """Training indices, ``IGNORE`` where the file has none."""
        values, known = label.read_valid(window)
        table, raw, where = self.spec.labels, values[0], str(label.path)
        if raw.dtype.kind == "f" and _ROUNDED not in self.warnings and (nearly_integral(raw) != raw)[known].any():
            self.warnings.append(_ROUNDED)
        if known.all():
            return table.to_index(raw, where=where)
        any_class = raw.dtype.type(table.classes[0].values[0])
        return np.where(known, table.to_index(np.where(known, raw, any_class), where=where), np.int16(IGNORE))


class _DeclaredLabels(Source):
    """A label file in which every value that the table declares is a label, also the file's nodata value.

    Many masks name 0, their background, as nodata.
    """

    def __init__(self, source: Source, table: LabelTable) -> None:
        self.path, self.grid, self.dtype = source.path, source.grid, source.dtype
        self.n_channels = 1
        self._source = source
        self._declared = [v for c in table.classes for v in c.values] + list(table.ignore_values)

    def _read(self, box: Box, channels: tuple[int, ...]) -> np.ndarray:
        return self._source.read(box, channels)

    def _valid(self, box: Box, channels: tuple[int, ...], cells: np.ndarray) -> np.ndarray | None:
        known = self._source.read_valid(box, channels)[1]
        return None if known.all() else known | np.isin(cells[0], self._declared)


def crs_name(frame: str) -> str:
    """A CRS in few letters: ``EPSG:32633`` where it has a code, else the beginning of its WKT."""
    if frame in (RAS_MM, PIXEL):
        return frame
    from rasterio.crs import CRS

    crs = CRS.from_wkt(frame)
    return f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else frame[:60]
