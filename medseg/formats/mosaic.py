"""Several tiles of one lattice of cells, seen as one scene."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.georeference import WHOLE, whole_cells
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid


class Mosaic(Source):
    """Tiles of one frame and cell size whose grids differ by whole cells.

    Where tiles overlap, the first one counts whose cell is valid and not NaN, in the order given. Cells
    that no tile covers so are not valid; their value is 0 where there is no tile. A window reads only the
    tiles that it touches, and of those behind another only what the ones before left open.

    Args:
        sources: One or more, with the same channels. Integer types are widened to hold all; with a tile
            of floats all are float32.
        grid: Grid of the result, of the same cells; None for the smallest box around all tiles.

    Raises:
        InputError: Cells that do not coincide (by more than 0.01 cell), or other channels; names two files.

    Example:
        ``Mosaic([formats.open(path) for path in sorted(folder.glob("*.tif"))])``
    """

    def __init__(self, sources: Sequence[Source], grid: Grid | None = None) -> None:
        if not sources:
            raise InputError("mosaic: got no tile, expected at least one; check the folder and its suffixes")
        first = sources[0]
        boxes = [_place(grid or first.grid, source, first) for source in sources]
        start, stop = (np.array([getattr(box, end) for box in boxes]) for end in ("start", "stop"))
        if grid is None:
            corner = start.min(axis=0)
            grid = first.grid.crop(Box(tuple(corner.tolist()), tuple(stop.max(axis=0).tolist())))
            start, stop = start - corner, stop - corner
        _check_channels(sources)
        self.path = Path(os.path.commonpath([source.path.absolute() for source in sources]))
        self.grid = grid
        self.n_channels, self.names = first.n_channels, first.names
        kind = np.result_type(*[source.dtype for source in sources])
        self.dtype = kind if kind.kind in "iu" else np.dtype(np.float32)
        self._sources, self._start, self._stop = tuple(sources), start, stop

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        return self._compose(box, channels)[0]

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        touched = self._touched(box)
        if len(touched) == 1 and self._inside(touched[0], box) == box:  # nothing needs to be read again
            source, start = self._sources[touched[0]], self._start[touched[0]]
            valid = source._valid(box.shift((-start).tolist()), channels, cells.astype(source.dtype, copy=False))
            whole = _known(cells)
            return whole if valid is None else valid & whole
        return self._compose(box, channels)[1]

    def _compose(self, box: Box, channels: tuple[int, ...]) -> tuple[Shaped[np.ndarray, "..."], npt.NDArray[np.bool_]]:
        cells = np.zeros((len(channels), *box.shape), dtype=self.dtype)
        done = np.zeros(box.shape, dtype=bool)
        written = np.zeros(box.shape, dtype=bool)
        for number in self._touched(box):
            part = self._inside(number, box)
            place = part.shift([-a for a in box.start]).slices
            if done[place].all():
                continue
            tile, valid = self._sources[number].read_valid(part.shift((-self._start[number]).tolist()), channels)
            valid = valid & _known(tile)
            target = (valid & ~done[place]) | ~written[place]
            cells[(slice(None), *place)][:, target] = tile[:, target]
            done[place] |= valid
            written[place] = True
        return cells, done

    def _touched(self, box: Box) -> list[int]:
        hit = (self._start < box.stop) & (self._stop > box.start)
        return [int(i) for i in np.flatnonzero(hit.all(axis=1))]

    def _inside(self, number: int, box: Box) -> Box:
        start = np.maximum(self._start[number], box.start)
        stop = np.minimum(self._stop[number], box.stop)
        return Box(tuple(start.tolist()), tuple(stop.tolist()))


def _place(grid: Grid, source: Source, first: Source) -> Box:
    start = whole_cells(grid, source.grid)
    if start is None:
        raise InputError(
            f"{source.path}: its cells are not those of {first.path} (other CRS, cell size, or shifted by a part of a "
            f"cell, more than {WHOLE}); warp it to that grid first (gdalwarp -t_srs -tr -tap)"
        )
    return Box.at(start, source.grid.shape)


def _known(cells: Shaped[np.ndarray, "c *s"]) -> npt.NDArray[np.bool_]:
    """Where no channel is NaN."""
    return ~np.isnan(cells).any(axis=0) if cells.dtype.kind == "f" else np.ones(cells.shape[1:], dtype=bool)


def _check_channels(sources: Sequence[Source]) -> None:
    """Raise on tiles of different channels."""
    first = sources[0]
    for source in sources:
        if (source.n_channels, source.names) != (first.n_channels, first.names):
            raise InputError(
                f"{source.path}: has {_channels(source)}, but {first.path} has {_channels(first)}; "
                "keep tiles of the same channels together"
            )


def _channels(source: Source) -> str:
    return f"{source.n_channels} channels{' ' + ', '.join(source.names) if source.names else ''}"
