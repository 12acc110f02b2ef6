"""ChannelReader: the channels of one image, read from the bands of its files by name or computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from medseg.data.layout.image_groups import group_of, names_in_file, names_within
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.sample import DataSpec
from medseg.sensors.formula import INDICES, Formula


@dataclass(frozen=True)
class _Band:
    """One band: which file, and which of its channels."""

    source: Source = field(repr=False)
    channel: int


def _by_source(bands: Mapping[str, _Band]) -> list[tuple[Source, dict[str, int]]]:
    """Each source that has bands, with the channels of these by name."""
    used = dict.fromkeys(band.source for band in bands.values())
    return [(s, {name: band.channel for name, band in bands.items() if band.source is s}) for s in used]


def _naming_hint(n_bands: int, ndim: int) -> str:
    """How to name bands, appended to the message about their number."""
    grey = ", such as data.channels=[grey]" if n_bands == 1 and ndim == 2 else ""
    return grey if ndim == 3 else f"{grey}, or name the bands of the files, in order, by data.bands"


class ChannelReader:
    """The channels of a case, or of one date of it.

    Args:
        where: Name of the case, for messages.
        files: Files of the sources, for messages.
        sources: Image files, all on one grid.
        spec: Channels that the dataset declares.
        reading: Options of reading.
        part: (number, count) of the date to read, where each file holds the bands of several dates in a row.
        groups: Image group of each source; empty where they have none.
        absent: Numbers of the files that the case lacks, see ``Case.absent``.
        nearest: The sources again, on the grid by their nearest cell, for a band of ``reading.date_masks``.

    Attributes:
        present: Which channels the case has: those of whose image groups it lacks none and, where the options allow
            absent channels, of whose bands its files lack none.

    Raises:
        InputError: Missing bands, another number of them than declared, or no channel that the case has.
    """

    def __init__(
        self,
        where: str,
        files: Sequence[Path],
        sources: Sequence[Source],
        spec: DataSpec,
        reading: ReadOptions,
        *,
        part: tuple[int, int] = (0, 1),
        groups: Sequence[str] = (),
        absent: Sequence[int] = (),
        nearest: Sequence[Source] = (),
    ) -> None:
        self.where, self.spec, self.reading = where, spec, reading
        self._absent = frozenset(absent)
        self._groups = tuple(groups)
        self.files = ", ".join(map(str, files))
        self.present = tuple(not groups or set(c.groups) <= set(groups) for c in spec.channels)
        self._plain, self._formulas = self._needed()
        bands = self._find([(source, self._part(source, *part)) for source in sources])
        mask = bands.pop(reading.date_masks.band, None) if reading.date_masks and nearest else None
        self._mask = None if mask is None else _Band(nearest[list(sources).index(mask.source)], mask.channel)
        self._arrange(bands)

    def _arrange(self, bands: dict[str, _Band]) -> None:
        """Take these bands as those that are read."""
        self._bands = bands
        self._sources = _by_source(bands)
        single = len(self._sources) == 1 and all(self.present)
        self._in_order = single and not self._formulas  # then one array holds the channels in order
        self._integers = not self._formulas and all(source.dtype.kind in "iu" for source, _ in self._sources)

    def _part(self, source: Source, number: int, parts: int) -> range:
        """Channels of a file that belong to one of its dates."""
        each, rest = divmod(source.n_channels, parts)
        if rest:
            raise InputError(
                f"{self.where}: {source.n_channels} band(s) in {source.path}, expected a multiple of its {parts} "
                "dates; fix the file, or data.dates.in_file"
            )
        return range(number * each, (number + 1) * each)

    def _find(self, files: Sequence[tuple[Source, range]]) -> dict[str, _Band]:
        """The band of each channel, and of each name in a formula."""
        bands = [_Band(source, channel) for source, channels in files for channel in channels]
        required = self._required()
        names = self._names(files, required)
        self._check_unique(names, required)
        missing = [name for name in required if name not in names]
        if missing:
            self._leave_out(missing, names)
        by_name = dict(zip(names, bands, strict=True))
        return {name: by_name[name] for name in self._required()}

    def _leave_out(self, missing: Sequence[str], names: Sequence[str]) -> None:
        """Take the channels of bands that the files lack for absent.

        Raises:
            InputError: The options do not allow absent channels, or none is left.
        """
        there = self.present_without(missing)
        if self.reading.date_masks and self.reading.date_masks.band in missing:
            raise InputError(
                f"{self.where}: no band {self.reading.date_masks.band} of data.date_masks in {self.files}, which has "
                f"{names}; fix the file or the name"
            )
        if self.reading.absent != "allow" or not any(there):
            raise self._missing(missing, names, some=any(there))
        self.present = there
        self._plain, self._formulas = self._needed()

    def present_without(self, names: Collection[str]) -> tuple[bool, ...]:
        """Which channels there are without some bands or channels."""
        lost = {name for name, formula in self._formulas.items() if not set(names).isdisjoint(formula.names)}
        lost.update(names)
        return tuple(c.name not in lost and here for c, here in zip(self.spec.channels, self.present, strict=True))

    def take_away(self, names: Collection[str]) -> None:
        """Read the case as if it lacked these bands or channels; their files are then not read.

        Raises:
            InputError: No channel would be left.
        """
        there = self.present_without(names)
        if not any(there):
            own = [c.name for c, here in zip(self.spec.channels, self.present, strict=True) if here]
            raise InputError(
                f"{self.where}: has the channels {own}, of which none is left without {', '.join(sorted(names))}; "
                "take fewer away"
            )
        self.present = there
        self._plain, self._formulas = self._needed()
        self._arrange({name: self._bands[name] for name in self._of_channels()})

    def _names(self, files: Sequence[tuple[Source, range]], required: Sequence[str]) -> list[str]:
        """Name of each band of the files, with its image group in front if it has one."""
        if self._groups:
            pairs = zip(self._groups, files, strict=True)
            return [name for group, file in pairs for name in self._names_in_group(group, *file, required)]
        own = [source.names[channel] for source, channels in files if source.names for channel in channels]
        return self._band_names(own, sum(len(channels) for _, channels in files))

    def _required(self) -> list[str]:
        """Names of the bands that are channels, occur in a formula, or mask cells."""
        names = self._of_channels()
        masks = [self.reading.date_masks.band] if self.reading.date_masks and self._needs_mask else []
        return list(dict.fromkeys([*names, *masks]))

    @property
    def _needs_mask(self) -> bool:
        """Whether a band that masks cells has to be there: not with its image group gone, which has channels too."""
        band = "" if self.reading.date_masks is None else self.reading.date_masks.band
        group = group_of(band, self.reading.image_groups)
        return not group or group in self._groups or not any(group in c.groups for c in self.spec.channels)

    def _of_channels(self) -> list[str]:
        """Names of the bands that are channels or occur in a formula."""
        names = [*self._plain]
        names += [name for formula in self._formulas.values() for name in formula.names]
        return list(dict.fromkeys(names))

    def _names_in_group(self, group: str, source: Source, channels: range, required: Sequence[str]) -> list[str]:
        """Names of the bands of an image group: of the options or the file, or by position those of the channels.

        Raises:
            InputError: A number of bands other than that of the names or the channels.
        """
        declared = names_within(self.reading.bands, group, self.reading.image_groups)
        names = declared or [source.names[channel] for channel in channels if source.names]
        if declared and len(names) != len(channels):
            raise InputError(
                f"{self.where}: {len(channels)} band(s) in {source.path}, expected {len(names)} as data.bands names: "
                f"{names}; fix the file or the names"
            )
        titles = names_in_file(group, names, len(channels), required, by_position=not self._formulas)
        if titles is not None:
            return titles
        own = [name for name in required if group_of(name, self.reading.image_groups) == group]
        hint = "" if self.spec.ndim == 3 else f", or name them, in order, by data.bands=[{group}.NAME, ...]"
        raise InputError(
            f"{self.where}: {len(channels)} channel(s) without names in {source.path}, expected {len(own)} {own}; fix "
            f"the file or the channel names{hint}"
        )

    def _band_names(self, own: Sequence[str], n_bands: int) -> list[str]:
        """The name of each band: of the options, of the files, or by position those of the channels.

        Raises:
            InputError: A number of bands other than that of the names or the channels.
        """
        names = self._there(self.reading.bands, n_bands) or list(own)
        if self.reading.bands and len(names) != n_bands:
            raise InputError(
                f"{self.where}: {n_bands} band(s) in {self.files}, expected {len(names)} as data.bands names: "
                f"{names}; fix the file or the names"
            )
        unrelated = not self._formulas and set(self._required()).isdisjoint(names)
        if len(names) == n_bands and not unrelated:
            return names
        declared = self._there([c.name for c in self.spec.channels], n_bands)
        if n_bands != len(declared) or self._formulas:
            raise InputError(
                f"{self.where}: {n_bands} channel(s) in {self.files}, expected {len(declared)} {declared}; "
                f"fix the files or the channel names{_naming_hint(n_bands, self.spec.ndim)}"
            )
        return declared

    def _there(self, names: Sequence[str], n_bands: int) -> list[str]:
        """Names of the bands of all files, without those that the case lacks where each has a file of its own."""
        alone = n_bands + len(self._absent) == len(names)
        return [name for number, name in enumerate(names) if not (alone and number in self._absent)]

    def _needed(self) -> tuple[list[str], dict[str, Formula]]:
        """The channels that the case has: names of bands, and formulas by name.

        Raises:
            InputError: It has none.
        """
        there = [c for c, present in zip(self.spec.channels, self.present, strict=True) if present]
        if not there:
            names = [c.name for c in self.spec.channels]
            raise InputError(
                f"{self.where}: its image groups {', '.join(self._groups)} have none of the channels {names}, expected "
                "one at least; take the case out, or add its files of other groups"
            )
        return [c.name for c in there if not c.formula], {c.name: Formula.parse(c.formula) for c in there if c.formula}

    def _check_unique(self, names: Sequence[str], required: Sequence[str]) -> None:
        """Raise on required bands that the files have more than once."""
        repeated = [name for name in required if names.count(name) > 1]
        if repeated:
            raise InputError(
                f"{self.where}: got band {', '.join(repeated)} more than once in {self.files}, which have {names}; "
                "give each band once, or name the bands, in order, by data.bands"
            )

    def _missing(self, missing: Sequence[str], names: Sequence[str], *, some: bool) -> InputError:
        """The error of bands that the files lack, with a hint for an index, or where there are ``some`` channels."""
        index = next((name for name in missing if name.upper() in INDICES), None)
        hint = "; data.absent=allow takes cases without some channels" if some else ""
        if index is not None:
            hint = f"; the index {index} follows from data.sensor, or from a formula of yours"
        return InputError(
            f"{self.where}: no band {', '.join(missing)} in {self.files}, which has {names}; fix the file, "
            f"data.channels, or data.bands{hint}"
        )

    def read(self, window: Box) -> tuple[Float[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        """Channels of a window, 0 where they have no data, and where they have data.

        Raises:
            InputError: NaN cells where the options reject them, or a damaged file.
        """
        arrays, valid = self._read_files(window)
        cells = {
            name: band
            for (_, channels), array in zip(self._sources, arrays, strict=True)
            for name, band in zip(channels, array, strict=True)
        }
        if self.reading.nodata is not None:
            valid &= np.any([band != self.reading.nodata for band in cells.values()], axis=0)
        if self._mask is not None and self.reading.date_masks is not None:
            mask, known = self._mask.source.read_valid(window, (self._mask.channel,))
            valid &= known & ~self.reading.date_masks.hides(mask[0])
        image = arrays[0] if self._in_order else self._stack(cells)
        if not self._integers:
            self._clear_nonfinite(image, valid, window)
        if not valid.all():
            image[:, ~valid] = 0
        return image, valid

    def _read_files(self, window: Box) -> tuple[list[Float[np.ndarray, "k *s"]], Bool[np.ndarray, " *s"]]:
        """The bands that are read of each file, and where all files have data."""
        valid = np.ones(window.shape, dtype=bool)
        arrays = []
        for source, channels in self._sources:
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is then an error with its name
                values, has_data = source.read_known(window, tuple(channels.values()))
                arrays.append(values.astype(np.float32, copy=self._in_order))
            if has_data is not None:
                valid &= has_data
        return arrays, valid

    def _stack(self, cells: Mapping[str, Float[np.ndarray, " *s"]]) -> Float[np.ndarray, "c *s"]:
        """The channels in order, computed where they have a formula."""
        computed = {name: formula({n: cells[n] for n in formula.names}) for name, formula in self._formulas.items()}
        values = {**cells, **computed}
        nothing = np.zeros_like(next(iter(cells.values())))
        channels = zip(self.spec.channels, self.present, strict=True)
        return np.stack([values[c.name] if present else nothing for c, present in channels])

    def _clear_nonfinite(self, image: Float[np.ndarray, "c *s"], valid: Bool[np.ndarray, " *s"], window: Box) -> None:
        """Set NaN and infinite values to 0 and their cells to not valid, in place.

        Raises:
            InputError: There are some in cells that are valid, and the options reject them.
        """
        finite = np.isfinite(image)
        if finite.all():
            return
        self._check_finite(finite | ~valid, window)
        image[~finite] = 0
        valid &= finite.all(axis=0)

    def _check_finite(self, finite: Bool[np.ndarray, "c *s"], window: Box) -> None:
        """Raise on values that are not finite, unless the options mask them."""
        if self.reading.nonfinite == "mask" or finite.all():
            return
        channel, *position = (int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
        place = tuple(p + start for p, start in zip(position, window.start, strict=True))
        raise InputError(
            f"{self.where}: {int((~finite).sum())} NaN or infinite value(s) in "
            f"{self.files}, first in channel {channel} at {place}; fix the file, or set "
            "data.nonfinite=mask to leave these voxels out"
        )
