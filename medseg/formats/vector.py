"""Shapes (GeoPackage, GeoJSON, Shapefile, FlatGeobuf, GeoParquet), drawn on a grid as a mask, through shapely."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from affine import Affine
from jaxtyping import Float, Shaped
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from rasterio.features import rasterize

from medseg.errors import InputError
from medseg.formats import geoparquet
from medseg.formats.source import Source, damage_told
from medseg.formats.vector_content import DRIVERS, checked_source
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid

_DAMAGE = (
    DataSourceError,
    DataLayerError,
    FeatureError,
    FieldError,
    GeometryError,
    shapely.errors.ShapelyError,
    CRSError,
    UnboundLocalError,  # of pyogrio, for a CRS that GDAL cannot write
    OSError,
    UnicodeDecodeError,
    OverflowError,
    MemoryError,
)
_TYPES = (np.uint8, np.int16, np.int32)


def rasterised(
    path: Path | str,
    grid: Grid,
    *,
    attribute: str | None = None,
    values: Mapping[str, int] | None = None,
    burn: int = 1,
    layer: str | None = None,
    all_touched: bool = False,
) -> Source:
    """A mask on ``grid``: cells whose centre lies inside a shape have its value, all others 0.

    Shapes are brought to the grid once, vertex by vertex; a window draws only those that it touches. Where
    shapes overlap, the later one in the file counts. Holes are empty. Lines and points draw the
    cells that they run through or lie in.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, FlatGeobuf or GeoParquet.
        grid: A scene's grid.
        attribute: Attribute of the shapes that holds their value; None gives all of them ``burn``.
        values: Value of each text in the attribute; integers that it does not name are values themselves.
        burn: Value of every shape, where no attribute is named.
        layer: Layer of a file that has several.
        all_touched: Draw every cell that a shape touches.

    Raises:
        InputError: Unreadable file, several layers or an unknown one, no shapes in it, no CRS, an unknown
            attribute, values that are missing, unknown or no integers, or a grid without CRS.
    """
    path = Path(path)
    if grid.frame in (PIXEL, RAS_MM):
        raise InputError(
            f"{path}: got shapes of a map for an image in frame {grid.frame!r}, which has no CRS; give the image one "
            "(gdal_edit -a_srs -a_ullr)"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; fix the path")
    with damage_told(path, *_DAMAGE):
        state = os.stat(path)
        shapes = _load(path, state.st_mtime_ns, state.st_size, layer, attribute)
    if attribute is None:
        numbers = np.full(len(shapes.geometry), burn)
    else:
        numbers = _numbers(path, attribute, shapes.attribute, values)
    return _Rasterised(path, grid, _on_grid(path, shapes, grid), numbers, all_touched=all_touched)


@dataclass(frozen=True)
class _Shapes:
    """Content of a layer: geometries, their CRS, and one attribute of each."""

    geometry: Shaped[np.ndarray, "..."]
    crs: str
    attribute: Shaped[np.ndarray, "..."] | None


class _Rasterised(Source):
    """Shapes in cells of a grid (column, row, from its outer corner), drawn window by window."""

    def __init__(
        self,
        path: Path,
        grid: Grid,
        shapes: Shaped[np.ndarray, "..."],
        numbers: Shaped[np.ndarray, "..."],
        *,
        all_touched: bool,
    ) -> None:
        low, high = min(0, int(numbers.min())), int(numbers.max())
        kinds = [k for k in _TYPES if np.iinfo(k).min <= low and high <= np.iinfo(k).max]
        if not kinds:
            raise InputError(
                f"{path}: got values from {low} to {high}, masks hold 32 bits; map them with smaller values"
            )
        height, width = grid.shape
        bounds = shapely.bounds(shapes)
        near = _touching(bounds, 0, 0, height, width)
        self.path, self.grid, self.n_channels, self.dtype = path, grid, 1, np.dtype(kinds[0])
        self._shapes, self._bounds, self._numbers = shapes[near], bounds[near], numbers[near].astype(self.dtype)
        self._all_touched = all_touched

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        mask = np.zeros(box.shape, dtype=self.dtype)
        near = _touching(self._bounds, *box.start, *box.stop)
        if near.any():
            rasterize(
                list(zip(self._shapes[near], self._numbers[near].tolist())),
                out=mask,
                transform=Affine.translation(box.start[1], box.start[0]),
                all_touched=self._all_touched,
            )
        return np.repeat(mask[None], len(channels), axis=0)


def _touching(bounds: Float[np.ndarray, "n 4"], top: int, left: int, bottom: int, right: int) -> npt.NDArray[np.bool_]:
    """Which bounds of shapes touch a window."""
    x0, y0, x1, y1 = bounds.T
    return (x0 <= right) & (x1 >= left) & (y0 <= bottom) & (y1 >= top)


@lru_cache(maxsize=2)  # many scenes share one file
def _load(path: Path, changed: int, size: int, layer: str | None, attribute: str | None) -> _Shapes:
    """Shapes of a layer that are not empty."""
    layer, encoded, crs, column = _read(path, layer, attribute)
    geometry = shapely.from_wkb(encoded)
    drawable = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    if not drawable.any():
        which = f"layer {layer!r} " if layer else ""
        raise InputError(f"{path}: {which}holds no shapes, at least one was expected; drop the file or draw some")
    return _Shapes(geometry[drawable], crs, None if column is None else column[drawable])


def _read(
    path: Path, layer: str | None, attribute: str | None
) -> tuple[str, Shaped[np.ndarray, "..."], str, Shaped[np.ndarray, "..."] | None]:
    """Name of a layer, its geometries as WKB, their CRS, and an attribute of each."""
    if path.suffix.lower() in geoparquet.SUFFIXES:
        _check_parquet(path, layer)
        return "", *geoparquet.read(path, attribute)
    source = checked_source(path)
    layer = _layer(path, [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None], layer)
    header = pyogrio.read_info(source, layer=layer)
    _check_header(path, header, attribute)
    columns = [] if attribute is None else [attribute]
    _, _, encoded, fields = pyogrio.raw.read(source, layer=layer, columns=columns)
    return layer, encoded, header["crs"], fields[0] if columns else None


def _check_parquet(path: Path, layer: str | None) -> None:
    """Raise on content of another kind, and on a layer, which the format has not."""
    with path.open("rb") as file:
        if file.read(len(geoparquet.MAGIC)) != geoparquet.MAGIC:
            raise InputError(f"{path}: does not start as a Parquet file does; convert it (ogr2ogr)")
    if layer is not None:
        raise InputError(f"{path}: Parquet files have no layers, got layer={layer!r}; leave it out")


def _layer(path: Path, names: Sequence[str], layer: str | None) -> str:
    """Name of the layer of the settings, or of the only one.

    Raises:
        InputError: There is no such layer, or there are several.
    """
    if layer is not None and layer not in names:
        raise InputError(f"{path}: no layer {layer!r}; its layers of shapes are {names}")
    if layer is None and len(names) != 1:
        raise InputError(
            f"{path}: holds {len(names)} layers of shapes {names}, one was expected; choose one with layer="
        )
    return layer or names[0]


def _check_header(path: Path, header: Mapping[str, Any], attribute: str | None) -> None:
    """Raise on another kind of file than its suffix says, on a layer without CRS or without the attribute."""
    if header["driver"] != DRIVERS[path.suffix.lower()]:
        raise InputError(f"{path}: is a file of kind {header['driver']}, expected {DRIVERS[path.suffix.lower()]}")
    if not header["crs"]:
        raise InputError(
            f"{path}: has no CRS, so its shapes lie nowhere; add one (ogr2ogr -a_srs, or the .prj of a .shp)"
        )
    if attribute is not None and attribute not in header["fields"]:
        raise InputError(f"{path}: no attribute {attribute!r}; shapes have {header['fields'].tolist()}")


def _on_grid(path: Path, shapes: _Shapes, grid: Grid) -> Shaped[np.ndarray, "..."]:
    """Geometries in (column, row) from the grid's outer corner."""
    with damage_told(path, CRSError, ProjError):
        change = Transformer.from_crs(CRS.from_user_input(shapes.crs), CRS.from_wkt(grid.frame), always_xy=True)

    def to_cells(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        world = np.stack(change.transform(*points.T), axis=1)
        lost = int((~np.isfinite(world).all(axis=1)).sum())
        if lost:
            raise InputError(
                f"{path}: {lost} points of its shapes do not exist in the CRS of the image; "
                "cut the shapes to the area of the images first (ogr2ogr -spat)"
            )
        return np.asarray(grid.to_index(world)[:, ::-1] + 0.5)

    return np.asarray(shapely.transform(shapes.geometry, to_cells))


def _numbers(
    path: Path, attribute: str, column: Shaped[np.ndarray, "..."] | None, values: Mapping[str, int] | None
) -> npt.NDArray[np.int64]:
    """Value of each shape from its attribute."""
    entries = [] if column is None else column.tolist()
    mapped = [_value(entry, values or {}) for entry in entries]
    numbers = [number for number in mapped if number is not None]
    unknown = Counter(_text(entry) for entry, number in zip(entries, mapped) if number is None)
    if unknown:
        few = dict(list(unknown.items())[:5])
        expected = f"integers or one of {sorted(values)}; fix it" if values else "integers; name texts by values="
        raise InputError(f"{path}: attribute {attribute!r} holds {few} (text: shapes), expected {expected}")
    return np.array(numbers, dtype=np.int64)


def _text(entry: object) -> str:
    """An attribute as text; whole floats (integers with gaps are read so) as integers."""
    return str(int(entry)) if isinstance(entry, float) and entry.is_integer() else str(entry)


def _value(entry: Any, values: Mapping[str, int]) -> int | None:
    """The label value of an attribute; None without one."""
    if _text(entry) in values:
        return values[_text(entry)]
    whole = isinstance(entry, int) or (isinstance(entry, float) and entry.is_integer())
    return int(entry) if whole and abs(entry) < 1 << 62 else None  # others do not fit into an array of integers
