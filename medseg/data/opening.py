"""Open a case: its files held to what the dataset declares, read whole or in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg import formats
from medseg.data.case import Case
from medseg.data.formula import Formula
from medseg.data.reading import Reading
from medseg.errors import BadInput
from medseg.formats.aligned import aligned
from medseg.formats.colours import ColourMask
from medseg.formats.georeference import same_frame
from medseg.formats.source import Source
from medseg.formats.vector import rasterised
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.labels import IGNORE, LabelTable
from medseg.sample import DataSpec, Sample


@dataclass(frozen=True)
class _Band:
    """One band of the case: which file, and which of its channels."""

    source: Source = field(repr=False)
    channel: int


class OpenCase:
    """One case whose headers have been read and checked; cells are read on demand.

    A volume of a single or few slices is read like any other: patches pad it. So is a case without any
    foreground, which teaches the background. Float label files are accepted where the values are integral.

    Attributes:
        case: The case.
        grid: Of its first image file, cut to ``case.box``.
        notes: What was done to bring its files together that their owner may want to know.

    Args:
        case: With or without a label.
        spec: What the dataset declares.
        reading: How strictly.
        sources: The image files, where they are opened already (tiles as one ``Mosaic``).
        label: Likewise the label file.

    Raises:
        BadInput: Another number of channels or axes than declared, missing bands, files on different
            grids; and whatever a damaged file raises when it is opened.
    """

    def __init__(
        self,
        case: Case,
        spec: DataSpec,
        reading: Reading,
        *,
        sources: Sequence[Source] | None = None,
        label: Source | None = None,
    ) -> None:
        self.case, self.spec, self.reading = case, spec, reading
        self.notes: list[str] = []
        sources = sources or self._opened(reading)
        self._whole = sources[0].grid
        if self._whole.ndim != spec.ndim:
            raise BadInput(
                f"case {case.id}: image {case.images[0]} has {self._whole.ndim} spatial axes (shape "
                f"{self._whole.shape}), expected {spec.ndim}; a further axis of channels needs its names in the dataset"
            )
        if case.box is not None and case.box.clip(self._whole.shape) != case.box:
            raise BadInput(f"case {case.id}: its box {case.box} is not inside the image {self._whole.shape}")
        self.box = case.box or Box.whole(self._whole.shape)
        self.grid = self._whole if case.box is None else self._whole.crop(case.box)
        placed = [sources[0], *(self._placed(source, "linear") for source in sources[1:])]
        self._formulas = {c.name: Formula.parse(c.formula) for c in spec.channels if c.formula}
        self._bands = self._find_bands(placed)
        self._label = None if case.label is None else self._open_label(case.label, label)
        self._valid = None if case.valid is None else self._placed(formats.open(case.valid), "nearest")

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return self.grid.shape

    def read(self, box: Box | None = None) -> Sample:
        """The case, or the window ``box`` of it, raw: in the files' own units.

        Cells without data are 0 and not valid; where the label has none, it is ``IGNORE``.

        Raises:
            BadInput: Unknown label values, NaN cells where they are refused, or a damaged file.
        """
        grid = self.grid if box is None else self.grid.crop(box)
        window = self.box if box is None else box.shift(self.box.start)
        image, valid = self._read_image(window)
        if self._valid is not None:
            inside, known = self._valid.read_valid(window)
            valid &= (inside[0] != 0) & known
            image[:, ~valid] = 0
        label = None if self._label is None else self._read_label(self._label, window)
        return Sample(image=image, label=label, valid=valid, grid=grid, case=self.case.id, group=self.case.group)

    def _opened(self, reading: Reading) -> list[Source]:
        """The image files. GDAL takes the last of four bands of bytes for alpha, unless it is told their meaning."""
        sources = [formats.open(path) for path in self.case.images]
        needed = len(reading.bands) or len([c for c in self.spec.channels if not c.formula])
        if sum(source.n_channels for source in sources) == needed - 1:
            sources = [formats.open(path, alpha=False) for path in self.case.images]
        return sources

    def _open_label(self, path: Path, opened: Source | None) -> Source:
        if opened is None and formats.suffix(path) in formats.VECTORS:
            values = {c.name: c.values[0] for c in self.spec.labels.classes}
            attribute, layer, all_touched = self.reading.attribute, self.reading.layer, self.reading.all_touched
            return rasterised(
                path, self._whole, attribute=attribute, layer=layer, values=values, all_touched=all_touched
            )
        source = opened or formats.open(path)
        if self.reading.mask_colours:
            source = ColourMask(source, self.reading.mask_colours, self.spec.labels)
        if source.n_channels != 1:
            raise BadInput(
                f"case {self.case.id}: label {path} has {source.n_channels} channels, expected 1 with a class value in "
                "each voxel; merge overlapping masks into one label file"
            )
        return self._placed(_DeclaredLabels(source, self.spec.labels), "nearest")

    def _placed(self, source: Source, order: Literal["nearest", "linear"]) -> Source:
        """The file on the grid of the case's first image."""
        grid, reference, reading = source.grid, self._whole, self.reading
        where = f"case {self.case.id}: {source.path} does not lie on the grid of {self.case.images[0]}"
        if grid.shape == reference.shape and grid.frame == PIXEL and reference.frame != RAS_MM:
            return source  # a mask without a georeference
        scene = reference.frame not in (RAS_MM, PIXEL) and grid.frame not in (RAS_MM, PIXEL)
        if scene and not same_frame(grid.frame, reference.frame):
            if reading.other_crs == "warp":
                self.notes.append(f"{where}: warped from {crs_name(grid.frame)} to {crs_name(reference.frame)}")
                return aligned(source, reference, order=order)
            came, expected = (crs_name(g.frame) for g in (grid, reference))
            raise BadInput(
                f"{where}: its CRS is {came}, expected {expected}; data.other_crs=warp warps it as it is read"
            )
        comparable = scene or grid.frame == reference.frame
        offset = Grid(grid.shape, grid.affine, reference.frame).offset_from(reference) if comparable else np.inf
        if offset <= reading.grid_tolerance:
            return source
        if scene and reading.other_grid == "align":
            moved = f"its shape is {grid.shape}" if not np.isfinite(offset) else f"it lies {offset:.3g} cells off"
            self.notes.append(f"{where}: {moved}; aligned to the {order} cells")
            return aligned(source, reference, order=order)
        if not np.isfinite(offset):
            came, expected = (f"shape {g.shape} in {crs_name(g.frame)}" for g in (grid, reference))
            raise BadInput(
                f"{where}: {came}, expected {expected}; resample it onto that grid, or check that the files belong "
                "together"
            )
        raise BadInput(
            f"{where}: displaced by up to {offset:.3g} voxels, allowed are {reading.grid_tolerance:g}; if only its "
            f"header is wrong, copy the geometry of the image or set data.grid_tolerance={_round_up(offset)}; if not, "
            "resample it"
        )

    def _find_bands(self, sources: Sequence[Source]) -> dict[str, _Band]:
        """The band of each channel, and of each name in a formula."""
        bands = [_Band(source, channel) for source in sources for channel in range(source.n_channels)]
        names = list(self.reading.bands) or [name for source in sources for name in source.names]
        wanted = [c.name for c in self.spec.channels if not c.formula]
        wanted += [name for formula in self._formulas.values() for name in formula.names]
        files = ", ".join(map(str, self.case.images))
        if self.reading.bands and len(names) != len(bands):
            raise BadInput(
                f"case {self.case.id}: {len(bands)} band(s) in {files}, expected {len(names)} as data.bands names: "
                f"{names}; mend the file or the names"
            )
        if len(names) != len(bands) or (set(wanted).isdisjoint(names) and not self._formulas):  # go by position
            if len(bands) != len(self.spec.channels) or self._formulas:
                declared = [c.name for c in self.spec.channels]
                raise BadInput(
                    f"case {self.case.id}: {len(bands)} channel(s) in {files}, expected {len(declared)} {declared}; "
                    "mend the files or the channel names" + ("" if self.spec.ndim == 3 else ", or name the bands of "
                    "the files, in order, by data.bands")
                )  # fmt: skip
            names = wanted
        twice = [name for name in dict.fromkeys(wanted) if names.count(name) > 1]
        if twice:
            raise BadInput(
                f"case {self.case.id}: band {', '.join(twice)} came more than once in {files}, which have {names}; "
                "give each band once, or name the bands, in order, by data.bands"
            )
        found = dict(zip(names, bands, strict=True))
        missing = [name for name in dict.fromkeys(wanted) if name not in found]
        if missing:
            raise BadInput(
                f"case {self.case.id}: no band {', '.join(missing)} in {files}, which has {names}; mend the file, "
                "data.channels, or data.bands"
            )
        return {name: found[name] for name in dict.fromkeys(wanted)}

    def _read_image(self, window: Box) -> tuple[Float[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        valid = np.ones(window.shape, dtype=bool)
        cells: dict[str, np.ndarray] = {}
        sources = list(dict.fromkeys(band.source for band in self._bands.values()))
        as_read = len(sources) == 1 and not self._formulas  # then one array holds the channels in order
        for source in sources:
            here = {name: band.channel for name, band in self._bands.items() if band.source is source}
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is then refused by name
                values, known = source.read_valid(window, list(here.values()))
                valid &= known
                values = values.astype(np.float32, copy=as_read)
            cells |= dict(zip(here, values, strict=True))
        if self.reading.nodata is not None:
            valid &= np.any([band != self.reading.nodata for band in cells.values()], axis=0)
        if as_read:
            image = values
        else:
            computed = {name: formula({n: cells[n] for n in formula.names}) for name, formula in self._formulas.items()}
            image = np.stack([computed[c.name] if c.formula else cells[c.name] for c in self.spec.channels])
        integers = not self._formulas and all(source.dtype.kind in "iu" for source in sources)
        if not integers and not (finite := np.isfinite(image)).all():
            self._check_finite(finite | ~valid, window)
            image[~finite] = 0
            valid &= finite.all(axis=0)
        if not valid.all():
            image[:, ~valid] = 0
        return image, valid

    def _check_finite(self, finite: Bool[np.ndarray, "c *s"], window: Box) -> None:
        if self.reading.nonfinite == "mask" or finite.all():
            return
        channel, *position = (int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
        place = tuple(p + start for p, start in zip(position, window.start, strict=True))
        raise BadInput(
            f"case {self.case.id}: {int((~finite).sum())} NaN or infinite value(s) in "
            f"{', '.join(map(str, self.case.images))}, first in channel {channel} at {place}; mend the file, or set "
            "data.nonfinite=mask to leave these voxels out"
        )

    def _read_label(self, label: Source, window: Box) -> Int[np.ndarray, " *s"]:
        """Training indices, ``IGNORE`` where the file has none."""
        values, known = label.read_valid(window)
        table, raw, where = self.spec.labels, values[0], str(label.path)
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


def _round_up(offset: float) -> str:
    """A tolerance with two digits that accepts ``offset``."""
    digit = 10.0 ** (np.floor(np.log10(offset)) - 1)
    return f"{np.ceil(offset / digit) * digit:.6g}"
