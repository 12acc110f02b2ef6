"""A label raster as polygons in a GeoPackage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from jaxtyping import Float, Integer, Shaped
from rasterio.windows import Window

from medseg.errors import InputError
from medseg.formats.geotiff import DAMAGE, unreferenced_unsaid
from medseg.formats.outlines import Areas, Band, outlined
from medseg.formats.source import damage_told
from medseg.labels import LabelTable
from medseg.runtime.atomic import atomic_file

_SEMI_MAJOR_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS 84
_TYPES = ("uint8", "int16", "uint16", "int32")  # label values
_AT_ONCE = 50_000  # polygons that are written at a time
_BAND = 2**21  # cells that are read and outlined at a time


@dataclass(frozen=True)
class PolygonOptions:
    """Which polygons are written, and how.

    Attributes:
        min_area_m2: Least area.
        min_cells: Least number of cells.
        simplify_m: Remove corners whose triangle is smaller than the square of this; 0 keeps the borders of cells.
    """

    min_area_m2: float = 0
    min_cells: int = 0
    simplify_m: float = 0


DEFAULT_POLYGONS = PolygonOptions()


def polygons(
    raster: Path | str,
    target: Path | str,
    labels: LabelTable,
    options: PolygonOptions = DEFAULT_POLYGONS,
    *,
    probabilities: Path | None = None,
) -> int:
    """Write a label raster's connected areas, along the borders of their cells, as a GeoPackage.

    Cells are connected through their sides. Nodata and the background, if the table has one, are left
    out. Each polygon has the attributes ``class`` (name), ``value`` (as in the raster) and ``area_m2``, the area of its
    cells: in the plane of a projected CRS, on the WGS 84 ellipsoid for degrees. Without a CRS coordinates are
    those of the raster's transform (or column and row), y is as there, and the area is ``area``.

    The raster is read in bands of rows, and areas that cross them are joined: memory is bounded by a band, and by the
    areas that are not complete yet. Simplified neighbours keep their common borders.

    Args:
        raster: A finished file of one band of saved values.
        target: A ``.gpkg`` file, replaced in one rename; its layer is named after it.
        labels: Meaning of the values.
        options: Which polygons are written.
        probabilities: A file with a band for each class on the same cells, 0 to 254 for 0 to 1: the attribute
            ``mean_probability`` is the mean of the own class. Not for regions, which are no classes.

    Returns:
        Number of polygons.

    Raises:
        InputError: Unreadable raster, one of another type, values without a class, or lengths in metres for a raster
            without CRS.
    """
    raster, target = Path(raster), Path(target)
    count = 0
    with atomic_file(target, suffix=".gpkg") as draft, ExitStack() as files:
        with damage_told(raster, *DAMAGE), unreferenced_unsaid():
            scene = files.enter_context(rasterio.open(raster))
        _check(scene, raster, options)
        prob = files.enter_context(rasterio.open(probabilities)) if probabilities and not labels.regions else None
        for columns, shapes in _batches(_Map(scene, raster, labels, prob), options):
            _write(draft, target.stem, scene.crs, columns, shapes)
            count += len(shapes)
    return count


def _check(scene: Any, raster: Path, options: PolygonOptions) -> None:
    if scene.dtypes[0] not in _TYPES:
        raise InputError(f"{raster}: holds {scene.dtypes[0]}, labels were expected in {', '.join(_TYPES)}")
    for key, meaning in (("min_area_m2", "area in m2"), ("simplify_m", "lengths in m")):
        value = getattr(options, key)
        if scene.crs is None and value > 0:
            raise InputError(f"{raster}: has no CRS, so no {meaning}; drop {key}={value}")


class _Map:
    """A raster of labels, read in bands."""

    def __init__(self, scene: Any, path: Path, labels: LabelTable, prob: Any) -> None:
        self.scene, self._path, self._labels, self.prob = scene, path, labels, prob
        self.names: Mapping[int, str] = {c.saved: c.name for c in labels.classes}
        self.values = np.array([0, *(c.saved for c in labels.classes)])
        self._without = [scene.nodata, labels.classes[0].saved if labels.background else None]

    def bands(self, rest: int) -> Iterator[Band]:
        """Every row; the code of cells that are not outlined is ``rest``."""
        height, width = self.scene.shape
        rows = max(1, _BAND // max(1, width))
        for row in range(0, height, rows):
            window = Window(0, row, width, min(rows, height - row))
            with damage_told(self._path, *DAMAGE):
                values = self.scene.read(1, window=window)
            codes = self._codes(values)
            score = None if self.prob is None else self._probability(codes, window)
            codes[codes == 0] = rest
            yield Band(row, codes, self._cell_areas(row, len(values)), score)

    def cell_size(self) -> float:
        """Side of a square as large as the cell in the middle, in the unit of areas."""
        return float(np.sqrt(self._cell_areas(self.scene.height // 2, 1).mean()))

    def _codes(self, values: Integer[np.ndarray, "r w"]) -> Integer[np.ndarray, "r w"]:
        codes = np.zeros(values.shape, np.uint8 if len(self.values) < 255 else np.uint16)
        unknown = np.ones(values.shape, bool)
        for code, value in enumerate(self.values.tolist()[1:], start=1):
            here = values == value
            unknown &= ~here
            if value not in self._without:
                codes[here] = code
        for value in self._without:
            if value is not None:
                unknown &= values != value
        if unknown.any():
            value, names = values[unknown][0], dict(self.names)
            raise InputError(
                f"{self._path}: holds the value {value}, the classes are {names}; give the table of this raster"
            )
        return codes

    def _probability(self, codes: Integer[np.ndarray, "r w"], window: Window) -> Float[np.ndarray, "r w"]:
        """The probability of the class of each cell."""
        own = np.zeros(codes.shape, np.float32)
        for code in np.unique(codes[codes > 0]).tolist():
            here = codes == code
            own[here] = self.prob.read(code, window=window)[here] / 254
        return own

    def _cell_areas(self, row: int, rows: int) -> Float[np.ndarray, "r w"]:
        """Area of cells, in m2 if there is a CRS; a single column or a single cell where all others are alike."""
        place, crs = self.scene.transform, self.scene.crs
        if crs is None or not crs.is_geographic:
            scale = crs.linear_units_factor[1] ** 2 if crs is not None else 1.0
            return np.full((1, 1), abs(place.determinant) * scale)
        width = 1 if place.b == place.d == 0 else self.scene.width
        down, across = np.mgrid[row : row + rows + 1, 0 : width + 1]
        degrees = in_world(np.stack([across.ravel(), down.ravel()], axis=1).astype(np.float64), place)
        corners = equal_area(degrees).reshape(*down.shape, 2)
        falling, rising = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
        return np.abs(falling[..., 0] * rising[..., 1] - falling[..., 1] * rising[..., 0]) / 2


def _batches(
    held: _Map, options: PolygonOptions
) -> Iterator[tuple[dict[str, Shaped[np.ndarray, " n"]], npt.NDArray[np.object_]]]:
    """Attributes and polygons of the map; a first batch without any, if there are none."""

    def keep(cells: Integer[np.ndarray, " n"], size: Float[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
        return (cells >= options.min_cells) & (size >= options.min_area_m2)

    simplify = options.simplify_m / held.cell_size() if options.simplify_m else 0
    yield _columns(held, Areas(*np.zeros((5, 0)))), np.zeros(0, object)
    rest = len(held.values) if simplify else 0
    for areas in outlined(held.bands(rest), keep, simplify=simplify, rest=rest):
        for start in range(0, len(areas.codes), _AT_ONCE):
            some = Areas(*(values[start : start + _AT_ONCE] for values in areas))
            placed = shapely.transform(some.polygons, lambda cells: in_world(cells, held.scene.transform))
            yield _columns(held, some), placed


def _columns(held: _Map, areas: Areas) -> dict[str, Shaped[np.ndarray, " n"]]:
    value = held.values[areas.codes.astype(np.int64)].astype(np.int32)
    columns: dict[str, Shaped[np.ndarray, " n"]] = {
        "class": np.array([held.names[v] for v in value.tolist()], dtype=object),
        "value": value,
        "area" if held.scene.crs is None else "area_m2": areas.size,
    }
    return columns if held.prob is None else columns | {"mean_probability": areas.score / np.maximum(areas.cells, 1)}


def in_world(cells: Float[np.ndarray, "n 2"], transform: Affine) -> Float[np.ndarray, "n 2"]:
    """Columns and rows as coordinates of the raster."""
    turn = np.array([[transform.a, transform.b], [transform.d, transform.e]])
    return cells @ turn.T + [transform.c, transform.f]


def equal_area(degrees: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Longitude and latitude in degrees to the plane of Lambert's cylindrical equal-area projection, in metres.

    Meridians and parallels, along which the cells of a geographic raster have their borders, become straight
    lines, so that areas of the plane are those on the WGS 84 ellipsoid.

    References:
        Snyder, Map Projections, 1987, equations 3-12 and 10-14.
    """
    squared = _FLATTENING * (2 - _FLATTENING)
    e = sqrt(squared)
    sine = np.sin(np.deg2rad(degrees[:, 1]))
    q = (1 - squared) * (sine / (1 - squared * sine**2) + np.arctanh(e * sine) / e)
    return np.stack([_SEMI_MAJOR_M * np.deg2rad(degrees[:, 0]), _SEMI_MAJOR_M * q / 2], axis=1)


def _write(
    path: Path, layer: str, crs: Any, columns: Mapping[str, Shaped[np.ndarray, " n"]], shapes: npt.NDArray[np.object_]
) -> None:
    """Add polygons to the layer, which is made first."""
    import pyogrio  # here, as it imports pandas, which predictions without polygons do not need

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)  # ordinary for images
        pyogrio.raw.write(
            path,
            shapely.to_wkb(shapes),
            list(columns.values()),
            list(columns),
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            append=path.exists(),
        )
