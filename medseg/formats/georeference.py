"""Georeference of scenes: conversion between rasterio's transform and CRS (of corners) and ``Grid`` (of centres)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, RAS_MM, Grid

WHOLE = 0.01
"""Largest difference, in cells, of grids whose cells are taken as the same."""


def grid_of(path: Path, shape: Sequence[int], transform: Affine, crs: CRS | None) -> Grid:
    """Grid of (row, column) cells from rasterio's ``transform``, which maps (column, row) of cell corners.

    Raises:
        InputError: The transform is singular; names the file.
    """
    frame = crs.to_wkt() if crs else PIXEL
    a, b, c, d, e, f = transform[:6]
    if frame == PIXEL and transform == Affine.identity():
        affine = np.eye(3)
    else:
        affine = np.array([[b, a, _centre(c, a, b)], [e, d, _centre(f, d, e)], [0, 0, 1]])
    try:
        grid = Grid(tuple(shape), affine, frame)
        grid.spacing  # noqa: B018  fails for a CRS without a unit of length
        return grid
    except (InputError, CRSError) as error:
        raise InputError(f"{path}: {error}") from error


def transform_of(grid: Grid) -> Affine | None:
    """Rasterio's transform of a scene's grid, the inverse of ``grid_of``; None for an image without one.

    Of the corners that give the grid's centres to the last bit, the nearest to the computed one.
    """
    if grid.frame == PIXEL and np.array_equal(grid.affine, np.eye(3)):
        return None
    (b, a, x), (e, d, y) = grid.affine[:2].tolist()
    return Affine(a, b, _corner(x, a, b), d, e, _corner(y, d, e))


@lru_cache(maxsize=64)
def crs_of(frame: str) -> CRS | None:
    """CRS of a scene's frame; None for ``PIXEL``."""
    return None if frame == PIXEL else CRS.from_wkt(frame)


@lru_cache(maxsize=64)
def same_frame(one: str, other: str) -> bool:
    """Whether two frames are the same coordinate system, whatever the wording of their WKT."""
    if one == other or {one, other} & {PIXEL, RAS_MM}:
        return one == other
    return bool(crs_of(one) == crs_of(other))


def crs_name(frame: str) -> str:
    """A short name of a frame: ``EPSG:32633`` for a CRS with a code, else the beginning of its WKT."""
    crs = None if frame == RAS_MM else crs_of(frame)
    if crs is None:
        return frame
    return f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else frame[:60]


def whole_cells(grid: Grid, other: Grid) -> tuple[int, ...] | None:
    """Index in ``grid`` of the first cell of ``other``, if the cells of both are the same ones.

    That is, the frame is the same, and no corner of ``other`` lies further than ``WHOLE`` cells from where
    it would be if cells agreed. None if cells differ.
    """
    if not same_frame(grid.frame, other.frame):
        return None
    ends = [max(s - 1, 1) for s in other.shape]
    corners = np.array(list(np.ndindex(*(2,) * other.ndim))) * ends
    indices = grid.to_index(other.to_world(corners))
    start = np.round(indices[0])
    if np.abs(indices - start - corners).max() > WHOLE:
        return None
    return tuple(int(i) for i in start)


def _centre(corner: float, along: float, down: float) -> float:
    """Coordinate of the centre of the first cell, from that of its corner."""
    return corner + 0.5 * along + 0.5 * down


def _corner(centre: float, along: float, down: float) -> float:
    """The inverse of ``_centre``, to the last bit where there is such a number."""
    near = centre - 0.5 * along - 0.5 * down
    for step in (0, 1, -1, 2, -2, 3, -3, 4, -4):
        corner = near + step * math.ulp(near)
        if _centre(corner, along, down) == centre:
            return corner
    return near
