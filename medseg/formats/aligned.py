"""A scene seen on another grid: shifted, of other cell size, or in another coordinate system."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Shaped

from medseg.errors import InputError
from medseg.formats.georeference import same_frame, whole_cells
from medseg.formats.mosaic import Mosaic
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid

_AT_ONCE = 1 << 20
"""Cells, of the finer of both grids, that are worked on at a time."""

_SNAP = 1e-6  # cells: a point this near a cell's centre, or to the border between two, is there


def aligned(source: Source, grid: Grid, *, order: Literal["nearest", "linear"]) -> Source:
    """The source as if it had been written on ``grid``; windows read only the cells that they need.

    Where both grids have the same cells (to 0.01 cell) the copy is exact, whatever the extent. Else
    cells are sampled at their centres: nothing is averaged where they get larger. Cells outside the
    source's extent are not valid; inside, a cell is valid where the nearest one of the source is.

    Args:
        source: A scene or image.
        grid: The grid to see it on, in the same frame, or both in a CRS.
        order: ``nearest`` for labels (a point midway between cells takes that of the higher index, as
            GDAL does) and keeps the type. ``linear`` for images, as float32, from the cells around that
            are valid and not NaN.

    Raises:
        InputError: Frames between which nothing leads, such as ``PIXEL`` and a CRS.
    """
    if whole_cells(source.grid, grid) is not None:
        return Mosaic([source], grid)
    frames = (source.grid.frame, grid.frame)
    if not same_frame(*frames) and {PIXEL, RAS_MM} & {*frames}:
        raise InputError(
            f"{source.path}: lies in {frames[0][:40]!r} and cannot be brought to {frames[1][:40]!r}; "
            "give both files a CRS and transform (gdal_edit), or neither"
        )
    return _Warped(source, grid, linear=order == "linear")


class _Warped(Source):
    """Cells of a source sampled at the centres of another grid."""

    def __init__(self, source: Source, grid: Grid, *, linear: bool) -> None:
        self.path, self.grid = source.path, grid
        self.n_channels, self.names = source.n_channels, source.names
        self.dtype = np.dtype(np.float32) if linear else source.dtype
        self._source, self._linear = source, linear
        ratio = math.prod(grid.spacing) / math.prod(source.grid.spacing)
        self._at_once = int(_AT_ONCE / max(1.0, ratio))

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        cells = np.zeros((len(channels), *box.shape), dtype=self.dtype)
        for rows, places in self._strips(box):
            window = self._window(places)
            if window is None:
                continue
            tile, valid = self._source.read_valid(window, channels)
            local = places - np.array(window.start)[:, None, None]
            rows_cols = _nearest(local, window.shape)
            sampled = _between(tile, valid, local) if self._linear else tile[(slice(None), *rows_cols)]
            cells[:, rows] = np.where(self._inside(places), sampled, 0)
        return cells

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        with_data = np.zeros(box.shape, dtype=bool)
        for rows, places in self._strips(box):
            window = self._window(places)
            if window is not None:
                _, valid = self._source.read_valid(window, channels)
                local = places - np.array(window.start)[:, None, None]
                with_data[rows] = valid[_nearest(local, window.shape)] & self._inside(places)
        return with_data

    def _strips(self, box: Box) -> Iterator[tuple[slice, Float[np.ndarray, "2 h w"]]]:
        """Rows of the box, and where the source's index is at their cells."""
        step = max(1, self._at_once // box.shape[1])
        for row in range(box.start[0], box.stop[0], step):
            strip = Box((row, box.start[1]), (min(row + step, box.stop[0]), box.stop[1]))
            places = _places(self._source.grid, self.grid, strip)
            yield slice(row - box.start[0], strip.stop[0] - box.start[0]), places

    def _inside(self, places: Float[np.ndarray, "2 h w"]) -> Bool[np.ndarray, "h w"]:
        """Where a point lies within the outer corners of the source."""
        shape = np.array(self._source.grid.shape)[:, None, None]
        return np.asarray(((places >= -0.5 - _SNAP) & (places < shape - 0.5 - _SNAP)).all(axis=0))

    def _window(self, places: Float[np.ndarray, "2 h w"]) -> Box | None:
        """Cells of the source around the points inside it; None if there are none."""
        inside = places[:, self._inside(places)]
        if not inside.size:
            return None
        start = np.floor(inside.min(axis=1) - _SNAP).astype(int)
        stop = np.floor(inside.max(axis=1) + _SNAP).astype(int) + 2
        return Box(tuple(start.tolist()), tuple(stop.tolist())).clip(self._source.grid.shape)


@lru_cache(maxsize=1)  # cells and validity of a window are read one after the other
def _places(source: Grid, grid: Grid, box: Box) -> Float[np.ndarray, "2 h w"]:
    """Index of ``source`` at each cell of a box of ``grid``; infinite where there is none."""
    if same_frame(source.frame, grid.frame):
        step = np.linalg.solve(source.affine, grid.affine)
        rows, cols = (np.arange(a, b, dtype=np.float64) for a, b in zip(box.start, box.stop))
        places = step[:2, :1, None] * rows[:, None] + step[:2, 1:2, None] * cols + step[:2, 2:, None]
    else:
        index = np.indices(box.shape).reshape(2, -1).T + np.array(box.start)
        x, y = _transformer(grid.frame, source.frame, threading.get_ident()).transform(*grid.to_world(index).T)
        with np.errstate(invalid="ignore"):  # infinite, where the source's CRS has no such point
            places = source.to_index(np.stack([x, y], axis=1)).T.reshape(2, *box.shape)
        places = np.where(np.isfinite(places), places, np.inf)
    places.setflags(write=False)
    return places


@lru_cache(maxsize=16)
def _transformer(source: str, target: str, thread: int) -> Any:
    from pyproj import CRS, Transformer

    return Transformer.from_crs(CRS.from_wkt(source), CRS.from_wkt(target), always_xy=True)


def _nearest(places: Float[np.ndarray, "2 h w"], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Index of the cell that each point lies in, clipped to the window."""
    index = np.floor(np.clip(places, -1, np.array(shape)[:, None, None]) + (0.5 + _SNAP)).astype(np.intp)
    return tuple(np.clip(axis, 0, n - 1) for axis, n in zip(index, shape))


def _between(
    cells: Shaped[np.ndarray, "c h w"], valid: Bool[np.ndarray, "h w"], places: Float[np.ndarray, "2 i j"]
) -> Float[np.ndarray, "c i j"]:
    """Mean of the up to four valid cells around each point, weighted linearly; 0 where there are none."""
    shape = np.array(valid.shape)[:, None, None]
    places = np.clip(places, 0, shape - 1)
    places = np.where(np.abs(places - np.round(places)) < _SNAP, np.round(places), places)
    low = np.floor(places).astype(np.intp)
    high = np.minimum(low + 1, shape - 1)
    share = places - low
    usable = valid & ~np.isnan(cells) if cells.dtype.kind == "f" else np.broadcast_to(valid, cells.shape)
    total = np.zeros((len(cells), *places.shape[1:]))
    weight = np.zeros_like(total)
    for rows, down in ((low[0], 1 - share[0]), (high[0], share[0])):
        for cols, along in ((low[1], 1 - share[1]), (high[1], share[1])):
            counted = down * along * usable[:, rows, cols]
            total += counted * np.where(usable[:, rows, cols], cells[:, rows, cols], 0)
            weight += counted
    with np.errstate(invalid="ignore"):
        mean = np.where(weight > 0, total / weight, 0)
    return mean.astype(np.float32)
