"""A label raster as polygons in a GeoPackage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from jaxtyping import Float, Shaped
from rasterio.features import shapes

from medseg.errors import InputError
from medseg.formats.geotiff import DAMAGE, unreferenced_unsaid
from medseg.formats.source import damage_told
from medseg.labels import LabelTable
from medseg.runtime.atomic import atomic_file

_SEMI_MAJOR_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS 84
_TYPES = ("uint8", "int16", "uint16", "int32")  # what GDAL outlines, of integers
_AT_ONCE = 10_000  # polygons in memory as shapely's


def polygons(raster: Path | str, target: Path | str, labels: LabelTable, *, min_area_m2: float = 0) -> int:
    """Write a label raster's connected areas, along the borders of their cells, as a GeoPackage.

    Cells are connected through their sides. Nodata and the background, if the table has one, are left
    out. Each polygon has the attributes ``class`` (name), ``value`` (as in the raster) and ``area_m2``:
    in the plane of a projected CRS, on the WGS 84 ellipsoid for degrees. Without a CRS coordinates are
    those of the raster's transform (or column and row), y is as there, and the area is ``area``.

    The raster is read line by line; GDAL keeps the polygons, not the cells, in memory.

    Args:
        raster: A finished file of one band of saved values.
        target: A ``.gpkg`` file, replaced in one rename; its layer is named after it.
        labels: Meaning of the values.
        min_area_m2: Leave out smaller polygons.

    Returns:
        Number of polygons.

    Raises:
        InputError: Unreadable raster, one of a type that GDAL does not outline, values without a class,
            or a least area for a raster without CRS.
    """
    raster, target = Path(raster), Path(target)
    count = 0
    with atomic_file(target, suffix=".gpkg") as draft:
        with damage_told(raster, *DAMAGE), unreferenced_unsaid():
            scene = rasterio.open(raster)
        with scene:
            if scene.dtypes[0] not in _TYPES:
                raise InputError(f"{raster}: holds {scene.dtypes[0]}, labels were expected in {', '.join(_TYPES)}")
            if scene.crs is None and min_area_m2 > 0:
                raise InputError(f"{raster}: has no CRS, so no area in m2; drop min_area_m2={min_area_m2}")
            areas = _areas(scene, raster, labels, min_area_m2)
            while (batch := list(islice(areas, _AT_ONCE))) or not draft.exists():  # a file without any, too
                _write(draft, target.stem, scene.crs, batch, append=draft.exists())
                count += len(batch)
    return count


def _areas(scene: Any, raster: Path, labels: LabelTable, least: float) -> Iterator[tuple[bytes, str, int, float]]:
    """Polygon as WKB, class name, value and area of each connected area."""
    names = {c.saved: c.name for c in labels.classes}
    without = {scene.nodata, labels.classes[0].saved if labels.background else None}
    for outline, number in shapes(rasterio.band(scene, 1), connectivity=4, transform=scene.transform):
        value = int(number)
        if value in without:
            continue
        if value not in names:
            raise InputError(
                f"{raster}: holds the value {value}, the classes are {names}; give the table of this raster"
            )
        area = _area(outline["coordinates"], scene.crs)
        if area >= least:
            polygon = shapely.Polygon(outline["coordinates"][0], outline["coordinates"][1:])
            yield shapely.to_wkb(polygon), names[value], value, area


def _area(rings: list[list[tuple[float, float]]], crs: Any) -> float:
    """Area inside the first ring and outside the others; m2 if there is a CRS."""
    points = [np.array(ring) for ring in rings]
    if crs is not None and crs.is_geographic:
        points = [equal_area(ring) for ring in points]
    scale = crs.linear_units_factor[1] ** 2 if crs is not None and not crs.is_geographic else 1.0
    outer, *holes = [abs(_shoelace(ring)) for ring in points]
    return float(scale * (outer - sum(holes)))


def _shoelace(ring: Float[np.ndarray, "n 2"]) -> float:
    x, y = (ring - ring[0]).T  # far from the origin, products would lose digits
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


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


def _write(path: Path, layer: str, crs: Any, batch: list[tuple[bytes, str, int, float]], *, append: bool) -> None:
    geometry, name, value, area = zip(*batch) if batch else ((), (), (), ())
    columns: dict[str, Shaped[np.ndarray, "..."]] = {
        "class": np.array(name, dtype=object),
        "value": np.array(value, dtype=np.int32),
        "area" if crs is None else "area_m2": np.array(area, dtype=np.float64),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)  # ordinary for images
        pyogrio.raw.write(
            path,
            np.array(geometry, dtype=object),
            list(columns.values()),
            list(columns),
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            append=append,
        )
