"""CaseReader: the files of a case, checked against the declaration of the dataset; read complete or in windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medseg import formats
from medseg.data.case import Case
from medseg.data.layout.image_groups import names_within
from medseg.data.reading.channels import ChannelReader
from medseg.data.reading.on_grid import OnGrid
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.formats.colours import ColourMask
from medseg.formats.embeddings import embedded
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.labels import IGNORE, LabelTable, nearly_integral
from medseg.labels.annotated import annotated_outputs, check_label
from medseg.sample import DataSpec, Sample, evenly_spaced, in_slots, with_class_channel

_ROUNDED = "label values are not quite integers and were rounded"
_SHEARED = "axes are not at right angles (sheared affine): rotations and distances take them as if they were"


class _Opened(NamedTuple):
    """Image files of a date, their sources, and their image groups, if they have some."""

    paths: tuple[Path, ...]
    sources: list[Source]
    groups: tuple[str, ...]

    def rank(self, order: Sequence[str]) -> int:
        """Place of its first image group among all of them."""
        return order.index(self.groups[0]) if self.groups else 0


class CaseReader:
    """One case, with headers read and checked; cells are read on demand.

    A volume of a single or few slices is read like any other: patches pad it. A case without any foreground is
    read too: background is learned from it. Float label files are accepted where the values are integral.

    Attributes:
        case: The case.
        grid: Grid of its first image file, cropped to ``case.box``.
        days: Dates of a time series that are read, in days since 1970-01-01; else empty.
        notes: Changes that brought its files onto one grid, for the user.
        warnings: Doubts about its files, each with a text that is the same for every case.

    Args:
        case: With or without a label.
        spec: Channels and labels that the dataset declares.
        reading: Options of reading.
        sources: The image files, if they are open already (tiles as one ``Mosaic``).
        label: The label file, if it is open already.

    Raises:
        InputError: Another number of channels or axes than declared, missing bands, files on different
            grids, dates that are not declared or declared dates that are missing; and the errors of a damaged file.
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
        self._of_files = spec.of_files
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._check_dates()
        dates = self._dates_read()
        self.days = tuple(case.days[i] for i in dates) if spec.dates else ()
        files = self._open_images(dates, sources)
        first = min(files, key=lambda part: part.rank(reading.image_groups))
        self._whole = first.sources[0].grid
        self._collect_warnings(source for part in files for source in part.sources)
        self._check_shape()
        self._note_reference(first.groups)
        self._on_grid = OnGrid(case, self._whole, reading, self.notes, self.warnings)
        self.box = case.box or Box.whole(self._whole.shape)
        self.grid = self._whole if case.box is None else self._whole.crop(case.box)
        self._channels = self._channel_readers(files, dates)
        self._label = None if case.label is None else self._open_label(case.label, label)
        self._votes = [self._open_label(path, None) for path in case.votes]
        self._valid = None if case.valid is None else self._on_grid(formats.open(case.valid), "nearest")
        self._first_stage = self._open_first_stage() if self._of_files.channels != spec.channels else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells on each axis."""
        return self.grid.shape

    def read(self, box: Box | None = None, *, votes: Sequence[int] = ()) -> Sample:
        """The case or a window of it, in the files' own units.

        Cells without data are 0 and not valid; where the label has none, it is ``IGNORE``. In a time series
        cells without data are NaN, and valid if any date has data.

        Args:
            box: The window; None for all.
            votes: Numbers of observers whose labels are read too, of ``case.votes``.

        Raises:
            InputError: Unknown label values, NaN cells where the options reject them, or a damaged file.
        """
        grid = self.grid if box is None else self.grid.crop(box)
        window = self.box if box is None else box.shift(self.box.start)
        image, valid = self._read_image(window)
        if self._valid is not None:
            inside, has_data = self._valid.read_valid(window)
            valid &= (inside[0] != 0) & has_data
            image[..., ~valid] = np.nan if self.days else 0
        if self._first_stage is not None:
            image = with_class_channel(image, self._read_label(self._first_stage, window))
        present = None if self.present.all() else self.present
        label = None if self._label is None else self._checked_label(self._label, window)
        days = None
        if self.days:
            image, days, present = in_slots(image, self.days, self.spec.dates, self._on_dates())
        return Sample(
            image,
            label,
            valid,
            grid,
            self.case.id,
            self.case.group,
            days=days,
            present=present,
            annotated=self.annotated,
            facts=self.case.facts,
            votes=self._read_votes(votes, window),
        )

    def _read_votes(self, votes: Sequence[int], window: Box) -> Int[np.ndarray, "r *s"] | None:
        """Labels of some of the observers; None of none."""
        return np.stack([self._checked_label(self._votes[i], window) for i in votes]) if len(votes) else None

    @property
    def present(self) -> Bool[np.ndarray, " c"]:
        """Which channels the case has; of a time series on any date."""
        further = [True for channel in self.spec.channels if channel.classes]
        return np.array([*np.logical_or.reduce(self._on_dates()), *further])

    def _on_dates(self) -> Bool[np.ndarray, "n c"]:
        """Which channels of files each date that is read has, or the image without dates."""
        return np.array([channels.present for channels in self._channels])

    @property
    def annotated(self) -> Bool[np.ndarray, " k"] | None:
        """Which outputs of a network the label annotates; None for all."""
        names = self.case.annotated
        return None if names is None else annotated_outputs(self.spec.labels, names)

    def without(self, names: Sequence[str]) -> CaseReader:
        """The case as if it lacked some channels; this reader itself, from which they are taken.

        Args:
            names: Of channels, or of image groups, whose channels go. A formula goes with each of its bands.

        Raises:
            InputError: A name of neither, or no channel would be left.
        """
        known = {name for c in self._of_files.channels for name in (c.name, *c.groups)}
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"without={unknown}: no such channels or image groups, expected some of {sorted(known)}")
        of_groups = {c.name for c in self._of_files.channels if not set(names).isdisjoint(c.groups)}
        self._take_away({*names, *of_groups})
        return self

    def _take_away(self, names: set[str]) -> None:
        """Read without these bands or channels; a date of which nothing is left is none."""
        if left := [i for i, channels in enumerate(self._channels) if any(channels.present_without(names))]:
            self._channels = [self._channels[i] for i in left]
            self.days = tuple(self.days[i] for i in left) if self.days else ()
        for channels in self._channels:
            channels.take_away(names)

    def read_label(self) -> Int[np.ndarray, " *s"]:
        """Training index of each cell, or ``IGNORE``; the image is not read.

        Raises:
            InputError: The case has no label, unknown label values, or a damaged file.
        """
        if self._label is None:
            raise InputError(f"case {self.case.id}: has no label; give it one")
        return self._checked_label(self._label, self.box)

    def _read_image(self, window: Box) -> tuple[Float[np.ndarray, "*lead_s"], Bool[np.ndarray, " *s"]]:
        """The channels of files in a window, of a time series date by date, and where they have data."""
        return self._read_series(window) if self.days else self._channels[0].read(window)

    def _read_series(self, window: Box) -> tuple[Float[np.ndarray, "n c *s"], Bool[np.ndarray, " *s"]]:
        """Every date that is read, NaN where it has no data or lacks a channel, and where any date has data."""
        shape = (len(self._channels), len(self._of_files.channels), *window.shape)
        image = np.full(shape, np.nan, dtype=np.float32)
        valid = np.zeros(window.shape, dtype=bool)
        for date, channels in zip(image, self._channels, strict=True):
            cells, has_data = channels.read(window)
            np.copyto(date, cells, where=has_data)
            date[~np.array(channels.present)] = np.nan
            valid |= has_data
        return image, valid

    def _check_shape(self) -> None:
        """Raise on another number of axes than declared, and on a box that is not inside the image."""
        case, grid = self.case, self._whole
        if grid.ndim != self.spec.ndim:
            raise InputError(
                f"case {case.id}: image {case.images[0]} has {grid.ndim} spatial axes (shape "
                f"{grid.shape}), expected {self.spec.ndim}; a further axis of channels needs its names in the dataset"
            )
        if case.box is not None and case.box.clip(grid.shape) != case.box:
            raise InputError(f"case {case.id}: its box {case.box} is not inside the image {grid.shape}")

    def _note_reference(self, groups: Sequence[str]) -> None:
        """Note where the case lacks the image group whose grid it should have."""
        if groups and groups[0] != self.reading.image_groups[0]:
            self.notes.append(
                f"case {self.case.id}: has no file of {self.reading.image_groups[0]}; its grid is that of {groups[0]}"
            )

    def _channel_readers(self, files: Sequence[_Opened], dates: Sequence[int]) -> list[ChannelReader]:
        """A reader of the channels of each date, or of the image without dates."""
        where, days = f"case {self.case.id}", len(self.case.days)
        settings: Any = {"spec": self._of_files, "reading": self.reading, "absent": self.case.absent}

        def reader(opened: _Opened, part: tuple[int, int] = (0, 1)) -> ChannelReader:
            masked = self.reading.date_masks is not None
            linear = [self._on_grid(source, "linear") for source in opened.sources]
            nearest = [self._on_grid(source, "nearest") for source in opened.sources] if masked else []
            own: Any = {"groups": opened.groups, "nearest": nearest, "part": part}
            return ChannelReader(where, opened.paths, linear, **own, **settings)

        if self.case.in_file:
            return [reader(files[0], (i, days)) for i in dates]
        return [reader(opened) for opened in files]

    def _dates_read(self) -> list[int]:
        """Numbers of the dates that are read, which have some channel; of the only one where there is no time axis."""
        if not self.spec.dates:
            return [0]
        dates = [i for i in range(len(self.case.days)) if not self.case.per_date or self._has_channels(i)]
        dates = dates or [0]
        if len(dates) < len(self.case.days):
            left_out = len(self.case.days) - len(dates)
            self.notes.append(f"case {self.case.id}: {left_out} dates have none of the channels and are not read")
        return [dates[i] for i in evenly_spaced(len(dates), self.spec.dates)]

    def _has_channels(self, date: int) -> bool:
        """Whether the image groups of a date have some channel."""
        groups = set(self.case.of_date(date)[1])
        return any(groups.issuperset(channel.groups) for channel in self._of_files.channels)

    def _check_dates(self) -> None:
        """Raise on dates that are not declared, or declared dates that are missing; note dates that are not read."""
        case, slots = self.case, self.spec.dates
        if bool(slots) != bool(case.days):
            raise InputError(
                f"case {case.id}: {len(case.days) or 'no'} dates in {case.images[0]}, "
                + (f"expected a time series of up to {slots}" if slots else "where no time axis was declared")
                + "; data.dates says how dates lie in files"
            )
        if case.days and len(case.days) > slots:
            self.notes.append(f"case {case.id}: of its {len(case.days)} dates {slots} evenly spaced ones are read")

    def _open_images(self, dates: Sequence[int], sources: Sequence[Source] | None) -> list[_Opened]:
        """Image files of each date that is read; one entry where files hold all dates, there are none, or are open."""
        case = self.case
        if sources is not None:
            return [_Opened(case.images, list(sources), case.image_groups)]
        alone = case.in_file or not case.days
        parts = [(case.images, case.image_groups)] if alone else [case.of_date(i) for i in dates]
        return [_Opened(paths, self._open_files(paths, groups), groups) for paths, groups in parts]

    def _open_files(self, paths: tuple[Path, ...], groups: tuple[str, ...]) -> list[Source]:
        """The files of an image, those of an image group each by itself."""
        kind = self.reading.embedding_of
        if not groups:
            return [embedded(source, kind()) for source in _open_files(paths, self._n_bands())]
        own = zip(groups, paths, strict=True)
        return [embedded(_open_files((path,), self._n_bands(group))[0], kind(group)) for group, path in own]

    def _n_bands(self, group: str = "") -> int:
        """Number of bands that the files of an image, or of an image group, should hold."""
        bands = names_within(self.reading.bands, group, self.reading.image_groups) if group else self.reading.bands
        of_group = (group,) if group else ()
        n = len(bands) or sum(1 for c in self._of_files.channels if not c.formula and c.groups == of_group)
        n -= len(self.case.absent)
        return n * len(self.case.days) if self.case.in_file else n

    def _open_label(self, path: Path, opened: Source | None) -> Source:
        """The label file on the grid of the image, with a channel of class values."""
        if opened is None and formats.suffix(path) in formats.VECTORS:
            from medseg.formats.vector import rasterised  # here, as it imports pandas, which few files need

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
        return self._on_grid(_DeclaredLabels(source, self.spec.labels), "nearest")

    def _open_first_stage(self) -> Source:
        """The label file that the first stage of a cascade predicted.

        Raises:
            InputError: There is none.
        """
        path = self.case.first_stage
        if path is None or self.spec.dates:
            what = "time series have no cascade" if self.spec.dates else "it has no prediction of the first stage"
            raise InputError(f"case {self.case.id}: {what}; train with first_stage=null")
        return self._on_grid(_DeclaredLabels(formats.open(path), self.spec.labels), "nearest")

    def _collect_warnings(self, sources: Iterable[Source]) -> None:
        """Add the warnings about files that are not there yet."""
        for source in sources:
            sheared = [_SHEARED] if source.grid.sheared else []
            self.warnings += [text for text in (*source.warnings, *sheared) if text not in self.warnings]

    def _checked_label(self, label: Source, window: Box) -> Int[np.ndarray, " *s"]:
        """Training indices of the label, which may hold annotated classes only."""
        index = self._read_label(label, window)
        if self.case.annotated is not None:
            check_label(index, self.spec.labels, self.case.annotated, str(label.path))
        return index

    def _read_label(self, label: Source, window: Box) -> Int[np.ndarray, " *s"]:
        """Training indices, ``IGNORE`` where the file has none."""
        values, has_data = label.read_valid(window)
        table, raw, where = self.spec.labels, values[0], str(label.path)
        if raw.dtype.kind == "f" and _ROUNDED not in self.warnings and (nearly_integral(raw) != raw)[has_data].any():
            self.warnings.append(_ROUNDED)
        if has_data.all():
            return table.to_index(raw, where=where)
        any_class = raw.dtype.type(table.classes[0].values[0])
        return np.where(has_data, table.to_index(np.where(has_data, raw, any_class), where=where), np.int16(IGNORE))


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
        has_data = self._source.read_valid(box, channels)[1]
        return None if has_data.all() else has_data | np.isin(cells[0], self._declared)


def _open_files(paths: tuple[Path, ...], n_bands: int) -> list[Source]:
    """The files of an image; with their last band as a channel where one is missing otherwise.

    GDAL takes the last of four bands of bytes for alpha, unless the file states their meaning.
    """
    sources = [formats.open(path) for path in paths]
    if sum(source.n_channels for source in sources) == n_bands - 1:
        sources = [formats.open(path, alpha=False) for path in paths]
    return sources
