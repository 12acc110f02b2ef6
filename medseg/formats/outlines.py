"""Connected areas of a raster that is read in bands of rows, each as a polygon along the borders of its cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from jaxtyping import Float, Integer, Shaped
from rasterio.features import shapes

Mask = npt.NDArray[np.bool_]


class Band(NamedTuple):
    """A few whole rows of a map.

    Attributes:
        row: The first of them.
        codes: Class of each cell, counted from 1; 0 where nothing is outlined.
        size: Area of each cell.
        score: What is summed over the cells of an area; None for nothing.
    """

    row: int
    codes: Integer[np.ndarray, "r w"]
    size: Float[np.ndarray, "r w"]
    score: Float[np.ndarray, "r w"] | None = None


class Areas(NamedTuple):
    """Some connected areas.

    Attributes:
        polygons: Their polygons, x along columns and y along rows, in cells.
        codes: Class of each.
        cells: Cells of each.
        size: Area of each.
        score: Sum over the cells of each.
    """

    polygons: npt.NDArray[np.object_]
    codes: Integer[np.ndarray, " n"]
    cells: Integer[np.ndarray, " n"]
    size: Float[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]


Keep = Callable[[Integer[np.ndarray, " n"], Float[np.ndarray, " n"]], Shaped[np.ndarray, " n"]]
"""Whether areas of so many cells and of such a size are outlined."""


@dataclass
class _Open:
    """An area that reaches the last row that was read."""

    code: int
    cells: int = 0
    size: float = 0.0
    score: float = 0.0
    pieces: list[shapely.Polygon] = field(default_factory=list)


def outlined(bands: Iterable[Band], keep: Keep, *, simplify: float = 0, rest: int = 0) -> Iterator[Areas]:
    """The connected areas of a map, each as soon as no further row belongs to it.

    Cells are connected through their sides. Every polygon is valid: where an area touches itself at a corner, it has a
    hole that touches its border. Memory is bounded by a band and by the areas that reach the rows read last.

    Args:
        bands: From the first row to the last.
        keep: Leaves areas out; those that lie within a band are not even traced.
        simplify: Remove corners whose triangle is smaller than the square of so many cells (Visvalingam and Whyatt), of
            neighbours alike. Corners on the border between two bands stay.
        rest: Code of what is a neighbour when borders are simplified, and is not outlined itself; 0 for none.
    """
    merger = _Merger(keep, simplify, rest)
    for band in bands:
        yield from merger.add(band)
    yield merger.rest()


class _Merger:
    """Areas that continue in the next band, and the row by which they do."""

    def __init__(self, keep: Keep, simplify: float, rest: int) -> None:
        self._keep = keep
        self._simplify = simplify
        self._rest = rest
        self._open: dict[int, _Open] = {}
        self._codes: npt.NDArray[np.integer] = np.zeros(0, np.uint8)
        self._numbers: npt.NDArray[np.integer] = np.zeros(0, np.int64)

    def add(self, band: Band) -> Iterator[Areas]:
        """The areas that end in a band, or ended before it."""
        parts, n = cc3d.connected_components(np.ascontiguousarray(band.codes), connectivity=4, return_N=True)
        measured = _measured(band, parts, n)
        pairs = self._pairs(band.codes[0], parts[0])
        goes_on = np.zeros(n + 1, bool)
        goes_on[parts[-1]] = True
        crosses = goes_on.copy()
        crosses[[part for _, part in pairs]] = True
        wanted = (measured.codes != 0) & (measured.codes != self._rest)
        crosses &= wanted
        alone = wanted & ~crosses & self._keep(measured.cells, measured.size)
        polygons = traced(parts, alone | crosses, band.row, self._simplify, n)
        yield _chosen(measured._replace(polygons=polygons), alone)
        ended, roots = self._merged(measured._replace(polygons=polygons), pairs, crosses, goes_on)
        self._codes, self._numbers = band.codes[-1].copy(), roots[parts[-1]]
        yield self._finished(ended)

    def rest(self) -> Areas:
        """The areas that reach the last row."""
        return self._finished(list(self._open.values()))

    def _pairs(self, codes: Integer[np.ndarray, " w"], parts: Integer[np.ndarray, " w"]) -> list[tuple[int, int]]:
        """Open areas with the parts of the next band that continue them."""
        if not len(self._codes):
            return []
        touch = (self._codes == codes) & (codes != 0) & (codes != self._rest)
        both = np.stack([self._numbers[touch], parts[touch].astype(np.int64)], axis=1)
        return [(int(a), int(b)) for a, b in np.unique(both, axis=0)] if len(both) else []

    def _merged(
        self,
        measured: Areas,
        pairs: list[tuple[int, int]],
        crosses: npt.NDArray[np.bool_],
        goes_on: npt.NDArray[np.bool_],
    ) -> tuple[list[_Open], npt.NDArray[np.int64]]:
        """Areas that ended, and the number of the open area that each part belongs to."""
        groups = _Groups()
        for number, part in pairs:
            groups.join(("before", number), ("part", part))
        areas: dict[Any, _Open] = {}
        for number, area in self._open.items():
            _merge(areas.setdefault(groups.root(("before", number)), _Open(area.code)), area)
        lives = set()
        for part in np.flatnonzero(crosses).tolist():
            root = groups.root(("part", part))
            own = _Open(
                int(measured.codes[part]),
                int(measured.cells[part]),
                float(measured.size[part]),
                float(measured.score[part]),
                [measured.polygons[part]],
            )
            _merge(areas.setdefault(root, _Open(own.code)), own)
            if goes_on[part]:
                lives.add(root)
        numbers = {root: number for number, root in enumerate(root for root in areas if root in lives)}
        self._open = {number: areas[root] for root, number in numbers.items()}
        roots = np.full(len(measured.codes), -1, np.int64)
        for part in np.flatnonzero(crosses & goes_on).tolist():
            roots[part] = numbers[groups.root(("part", part))]
        return [area for root, area in areas.items() if root not in lives], roots

    def _finished(self, ended: list[_Open]) -> Areas:
        """Areas of several bands in one piece each."""
        cells, size = np.array([a.cells for a in ended], np.int64), np.array([a.size for a in ended], np.float64)
        wanted = self._keep(cells, size)
        polygons = np.full(len(ended), None, object)
        for place in np.flatnonzero(wanted).tolist():
            polygons[place] = joined(ended[place].pieces)
        codes = np.array([a.code for a in ended], np.int64)
        areas = Areas(polygons, codes, cells, size, np.array([a.score for a in ended], np.float64))
        return _chosen(areas, wanted)


class _Groups:
    """Things that belong together, by pairs of them."""

    def __init__(self) -> None:
        self._above: dict[Any, Any] = {}

    def root(self, one: Any) -> Any:
        """What stands for the group of a thing."""
        while (above := self._above.get(one, one)) != one:
            self._above[one] = self._above.get(above, above)
            one = above
        return one

    def join(self, one: Any, other: Any) -> None:
        """Two things are of one group."""
        self._above[self.root(other)] = self.root(one)


def _merge(into: _Open, area: _Open) -> None:
    into.cells += area.cells
    into.size += area.size
    into.score += area.score
    into.pieces += area.pieces


def _chosen(areas: Areas, which: Mask) -> Areas:
    return Areas(*(values[which] for values in areas))


def _measured(band: Band, parts: Integer[np.ndarray, "r w"], n: int) -> Areas:
    """Class, cells, area and score of each part by its number; 0 is what is not outlined."""
    flat = parts.ravel()
    cells = np.bincount(flat, minlength=n + 1)
    size = np.bincount(flat, weights=np.broadcast_to(band.size, parts.shape).ravel(), minlength=n + 1)
    score = np.zeros(n + 1) if band.score is None else np.bincount(flat, weights=band.score.ravel(), minlength=n + 1)
    codes = np.zeros(n + 1, np.int64)
    codes[flat] = band.codes.ravel()
    return Areas(np.full(n + 1, None, object), codes, cells, size, score)


def traced(
    parts: Integer[np.ndarray, "r w"], wanted: Mask, row: int, simplify: float, n: int
) -> npt.NDArray[np.object_]:
    """Polygon of each part of a band by its number; None where it is not wanted.

    Args:
        parts: Number of the connected part of each cell.
        wanted: By number, whether a part is outlined.
        row: First row of the band.
        simplify: As in ``outlined``; then all parts are traced, as neighbours share their borders.
        n: Number of parts.
    """
    numbers = parts.astype(np.int32) if simplify else np.where(wanted[parts], parts, 0).astype(np.int32)
    rings: list[Any] = []
    ring_of: list[int] = []
    polygon_of: list[int] = []
    number_of: list[int] = []
    mask = None if simplify else numbers > 0
    for outline, number in shapes(numbers, mask=mask, connectivity=4, transform=Affine.translation(0, row)):
        for ring in outline["coordinates"]:
            ring_of += [len(polygon_of)] * len(ring)
            polygon_of.append(len(number_of))
            rings += ring
        number_of.append(int(number))
    polygons = np.full(n + 1, None, object)
    if not number_of:
        return polygons
    linear = shapely.linearrings(np.array(rings), indices=ring_of)
    every = valid(shapely.polygons(linear, indices=polygon_of))
    if simplify:
        corners = shapely.segmentize(every, 1)  # neighbours have all corners of a shared border in common
        every = valid(shapely.coverage_simplify(corners, simplify, simplify_boundary=False))
        every = np.array([straightened(polygon) for polygon in every], object)
    inside = np.array(number_of) > 0
    polygons[np.array(number_of)[inside]] = every[inside]
    polygons[~wanted] = None
    return polygons


def valid(polygons: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """The same areas; rings that touch themselves at a corner become rings that touch each other."""
    broken = ~shapely.is_valid(polygons)
    if broken.any():
        polygons = polygons.copy()
        polygons[broken] = shapely.make_valid(polygons[broken])
    return polygons


def joined(pieces: list[shapely.Polygon]) -> shapely.Polygon:
    """Pieces of one area, of neighbouring bands, as one polygon."""
    if len(pieces) == 1:
        return pieces[0]
    return straightened(shapely.union_all(pieces))


def straightened(polygon: shapely.Polygon) -> shapely.Polygon:
    """The same polygon without corners where it goes straight on."""
    shell, *holes = [_corners(ring) for ring in (polygon.exterior, *polygon.interiors)]
    return shapely.Polygon(shell, holes)


def _corners(ring: shapely.LinearRing) -> Float[np.ndarray, "n 2"]:
    points = shapely.get_coordinates(ring)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
