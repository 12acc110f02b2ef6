"""The channels of one image among the bands of its files: found by name, read, computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

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


class Bands:
    """The channels of a case, or of one date of it.

    Args:
        where: The case, for messages.
        files: What the sources were opened from, for messages.
        sources: All on one grid.
        spec: What the dataset declares.
        reading: How strictly.
        part: (number, of how many): which of several dates that the bands of each file are, one after another.

    Raises:
        InputError: Missing bands, or another number of them than declared.
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
    ) -> None:
        self.where, self.spec, self.reading = where, spec, reading
        self.files = ", ".join(map(str, files))
        self._formulas = {c.name: Formula.parse(c.formula) for c in spec.channels if c.formula}
        bands = self._find([(source, self._part(source, *part)) for source in sources])
        used = dict.fromkeys(band.source for band in bands.values())
        self._sources = [(s, {name: band.channel for name, band in bands.items() if band.source is s}) for s in used]
        self._integers = not self._formulas and all(source.dtype.kind in "iu" for source in used)

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
        own = [source.names[channel] for source, channels in files if source.names for channel in channels]
        names = list(self.reading.bands) or own
        wanted = [c.name for c in self.spec.channels if not c.formula]
        wanted += [name for formula in self._formulas.values() for name in formula.names]
        if self.reading.bands and len(names) != len(bands):
            raise InputError(
                f"{self.where}: {len(bands)} band(s) in {self.files}, expected {len(names)} as data.bands names: "
                f"{names}; fix the file or the names"
            )
        if len(names) != len(bands) or (set(wanted).isdisjoint(names) and not self._formulas):  # go by position
            if len(bands) != len(self.spec.channels) or self._formulas:
                declared = [c.name for c in self.spec.channels]
                cure = ", such as data.channels=[grey]" if len(bands) == 1 and self.spec.ndim == 2 else ""
                cure += "" if self.spec.ndim == 3 else ", or name the bands of the files, in order, by data.bands"
                raise InputError(
                    f"{self.where}: {len(bands)} channel(s) in {self.files}, expected {len(declared)} {declared}; "
                    f"fix the files or the channel names{cure}"
                )
            names = wanted
        twice = [name for name in dict.fromkeys(wanted) if names.count(name) > 1]
        if twice:
            raise InputError(
                f"{self.where}: got band {', '.join(twice)} more than once in {self.files}, which have {names}; "
                "give each band once, or name the bands, in order, by data.bands"
            )
        found = dict(zip(names, bands, strict=True))
        missing = [name for name in dict.fromkeys(wanted) if name not in found]
        if missing:
            index = next((name for name in missing if name.upper() in INDICES), None)
            more = "" if index is None else f"; the index {index} follows from data.sensor, or from a formula of yours"
            raise InputError(
                f"{self.where}: no band {', '.join(missing)} in {self.files}, which has {names}; fix the file, "
                f"data.channels, or data.bands{more}"
            )
        return {name: found[name] for name in dict.fromkeys(wanted)}

    def read(self, window: Box) -> tuple[Float[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        """Channels of a window, 0 where they have no data, and where they have.

        Raises:
            InputError: NaN cells where they are refused, or a damaged file.
        """
        valid = np.ones(window.shape, dtype=bool)
        cells: dict[str, np.ndarray] = {}
        as_read = len(self._sources) == 1 and not self._formulas  # then one array holds the channels in order
        for source, channels in self._sources:
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is then refused by name
                values, known = source.read_known(window, tuple(channels.values()))
                values = values.astype(np.float32, copy=as_read)
            if known is not None:
                valid &= known
            cells |= dict(zip(channels, values, strict=True))
        if self.reading.nodata is not None:
            valid &= np.any([band != self.reading.nodata for band in cells.values()], axis=0)
        if as_read:
            image = values
        else:
            computed = {name: formula({n: cells[n] for n in formula.names}) for name, formula in self._formulas.items()}
            image = np.stack([computed[c.name] if c.formula else cells[c.name] for c in self.spec.channels])
        if not self._integers and not (finite := np.isfinite(image)).all():
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
        raise InputError(
            f"{self.where}: {int((~finite).sum())} NaN or infinite value(s) in "
            f"{self.files}, first in channel {channel} at {place}; fix the file, or set "
            "data.nonfinite=mask to leave these voxels out"
        )
