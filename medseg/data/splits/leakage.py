"""What training and validation share that a split should have kept apart: cases, ground, pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from medseg.data.case import Case
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.sample import Sample

_SLACK = 0.05  # cells along each border that may overlap by rounding
_EDGE = np.linspace(0, 1, 21, endpoint=False)  # points along an edge, which another CRS may bend
_WINDOW = 32  # tiles along each side of a window that is read at once
_VARIED = 1 / 16  # share of a tile's cells that differ from the next, below which a tile is plain


@dataclass(frozen=True)
class Leak:
    """Something that training and held-out cases (of validation or test) share.

    Attributes:
        kind: ``case`` (the same id), ``group``, ``ground`` (overlapping footprints, or parts of one file) or
            ``pixels`` (equal cells, or equal files).
        train: Id of the training case.
        val: Id of the held-out case.
        share: Fraction of the held-out case that is shared, in (0, 1]; 1 for ``case`` and ``group``.
        message: One line for people.
    """

    kind: Literal["case", "group", "ground", "pixels"]
    train: str
    val: str
    share: float
    message: str


@runtime_checkable
class Opened(Protocol):
    """A case whose cells can be read; ``medseg.data.reading.open_case.CaseReader`` is one."""

    grid: Grid

    def read(self, box: Box) -> Sample:
        """The cells of a box inside the case."""
        ...


_Open = Callable[[Case], Opened]


@dataclass(frozen=True)
class _HeldOut(Sequence[Case]):
    """Validation cases, then test cases."""

    cases: tuple[Case, ...]
    n_val: int

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: Any) -> Any:
        return self.cases[index]

    def part(self, index: int) -> str:
        """What a case is held out for, for messages."""
        return "validation" if index < self.n_val else "test"


def leaks(
    train: Sequence[Case],
    val: Sequence[Case],
    open: _Open,
    *,
    test: Sequence[Case] = (),
    tile: int = 32,
    windows: int = 16,
    digest: Callable[[Case], str] | None = None,
    cells: Callable[[Case], str] | None = None,
) -> list[Leak]:
    """What training and held-out cases share.

    - The same case, or cases of the same group (named once a group, with its first cases).
    - Ground: footprints of scenes that overlap by more than rounding, in another CRS too; and parts of
      one file that overlap, in any frame. Frames of volumes and of images without georeference have no
      common world, so other files are not compared.
    - Pixels: tiles of equal cell values in every channel. Tiles lie at multiples of their size, so copies
      of files and of parts cut at such places are found, other shifts and flips are not. Tiles that
      are plain (nodata, black borders, saturated) are the same everywhere and don't count.

    - Files: with ``digest``, cases whose image files hold the same bytes.
    - Cells: with ``cells``, cases of one shape that hold the same values, whatever their header and compression.

    A pair of cases is reported once, for the first of these (in addition to its group).

    Args:
        train: Training cases.
        val: Validation cases.
        open: Opens a case; labels are not read.
        test: Test cases, which are compared with training like those of the validation.
        tile: Cells along each side of a tile; smaller cases are one tile along that axis.
        windows: Largest number of windows of a case that are read, of 32 tiles a side, spread evenly (16 are
            4,096 x 4,096 cells); 0 compares no pixels, and reads headers only.
        digest: Hash of the image files of a case; None compares no files.
        cells: Hash of the cells of a case, empty if they are all alike (see ``cells_digest``); it is asked of cases
            only whose shape both sides have. None compares no cells.

    Returns:
        Leaks in the order above, each kind in the order of the validation cases, then the test cases.
    """
    held = _HeldOut((*val, *test), len(val))
    direct = [*_same_cases(train, held), *_same_groups(train, held)]
    direct += shared_ground(train, val, lambda case: open(replace(case, label=None)).grid, test=test)
    pairs = {(leak.train, leak.val) for leak in direct if leak.kind != "group"}
    further = _same_files(train, held, digest) if digest is not None else []
    if cells is not None:
        copies = {leak.val for leak in further}
        further += [leak for leak in _same_cells(train, held, open, cells) if leak.val not in copies]
    further += _shared_pixels(train, held, open, tile, windows) if windows else []
    return [*direct, *(leak for leak in further if (leak.train, leak.val) not in pairs)]


def _same_cases(train: Sequence[Case], held: _HeldOut) -> list[Leak]:
    ids = {case.id for case in train}
    return [
        Leak("case", c.id, c.id, 1.0, f"case {c.id} is in training and in {held.part(j)}")
        for j, c in enumerate(held)
        if c.id in ids
    ]


def _same_files(train: Sequence[Case], held: _HeldOut, digest: Callable[[Case], str]) -> list[Leak]:
    first = {digest(case): case.id for case in reversed(train) if case.box is None}
    same = [(j, case, first.get(digest(case))) for j, case in enumerate(held) if case.box is None]
    return [
        Leak("pixels", one, c.id, 1.0, f"{held.part(j)} case {c.id} has the same image files as training case {one}")
        for j, c, one in same
        if one is not None and one != c.id
    ]


def _same_cells(train: Sequence[Case], held: _HeldOut, open: _Open, cells: Callable[[Case], str]) -> list[Leak]:
    shapes = [[open(replace(case, label=None)).grid.shape for case in side] for side in (train, held)]
    common = set(shapes[0]) & set(shapes[1])
    first: dict[str, str] = {}
    for case, shape in zip(train, shapes[0], strict=True):
        if shape in common:
            first.setdefault(cells(case), case.id)
    first.pop("", None)
    same = [
        (j, c, first.get(cells(c))) for j, (c, shape) in enumerate(zip(held, shapes[1], strict=True)) if shape in common
    ]
    return [
        Leak("pixels", one, c.id, 1.0, f"{held.part(j)} case {c.id} has the same cells as training case {one}")
        for j, c, one in same
        if one is not None and one != c.id
    ]


def cells_digest(reader: Opened) -> str:
    """Hash of all cells of a case; empty if they are all alike, as those of a failed scan."""
    image = reader.read(Box.whole(reader.grid.shape)).planes
    if image.size == 0 or (image == image.flat[0]).all():
        return ""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=repr(image.shape).encode()).hexdigest()


def _same_groups(train: Sequence[Case], held: _HeldOut) -> list[Leak]:
    first: dict[str, str] = {}
    for case in train:
        first.setdefault(case.group, case.id)
    by_group: dict[str, Leak] = {}
    for j, case in enumerate(held):
        other = first.get(case.group)
        if other is not None and other != case.id and case.group not in by_group:
            message = f"group {case.group} is in training (case {other}) and in {held.part(j)} (case {case.id})"
            by_group[case.group] = Leak("group", other, case.id, 1.0, message)
    return list(by_group.values())


def shared_ground(
    train: Sequence[Case], val: Sequence[Case], grid_of: Callable[[Case], Grid], *, test: Sequence[Case] = ()
) -> list[Leak]:
    """Ground that training and held-out cases share: scenes that overlap, and parts of one file that do.

    Args:
        train: Training cases.
        val: Validation cases.
        grid_of: Grid of a case.
        test: Test cases, which are compared with training like those of the validation.

    Returns:
        Leaks of the kind ``ground``, in the order of the validation cases, then the test cases.
    """
    held = _HeldOut((*val, *test), len(val))
    grids = [[grid_of(case) for case in side] for side in (train, held)]
    by_pair: dict[tuple[int, int], Leak] = {}
    for i, j, share in _overlaps(*grids):
        one, other = train[i].id, held[j].id
        what = f"training case {one} covers {_percent(share)} of the ground of {held.part(j)} case {other}"
        by_pair[j, i] = Leak("ground", one, other, share, what)
    for i, j, path in _with_common_file(train, held):
        one, other = train[i].id, held[j].id
        share = _common(_part(train[i], grids[0][i]), _part(held[j], grids[1][j]))
        what = f"training case {one} holds {_percent(share)} of {held.part(j)} case {other}"
        if share:
            by_pair.setdefault((j, i), Leak("ground", one, other, share, f"{what}, both of {path}"))
    return [by_pair[pair] for pair in sorted(by_pair) if by_pair[pair].train != by_pair[pair].val]


def _with_common_file(train: Sequence[Case], val: Sequence[Case]) -> Iterator[tuple[int, int, Path]]:
    """(training index, validation index, file) of cases that are read from the same file."""
    readers: dict[Path, list[int]] = defaultdict(list)
    for i, case in enumerate(train):
        for path in case.images:
            readers[path].append(i)
    for j, case in enumerate(val):
        for path in case.images:
            yield from ((i, j, path) for i in readers[path])


def _part(case: Case, grid: Grid) -> Box:
    """Cells of its files that the case is."""
    return case.box or Box.whole(grid.shape)


def _common(one: Box, other: Box) -> float:
    """Share of ``other`` that lies in ``one``."""
    sides = [min(b, d) - max(a, c) for a, b, c, d in zip(one.start, one.stop, other.start, other.stop, strict=True)]
    return float(np.prod(np.maximum(sides, 0)) / np.prod(other.shape))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _overlaps(train: Sequence[Grid], val: Sequence[Grid]) -> Iterator[tuple[int, int, float]]:
    """(training index, validation index, share of the validation footprint) of scenes that overlap."""
    import shapely

    for (frame, inner), (other, outer) in product(_by_frame(val).items(), _by_frame(train).items()):
        here, there = [val[j] for j in inner], [train[i] for i in outer]
        tree = shapely.STRtree(_footprints(there, other, frame, _SLACK))
        hits = tree.query(_footprints(here, frame, frame, _SLACK), predicate="intersects")
        ours, theirs = _footprints(here, frame, frame, 0)[hits[0]], _footprints(there, other, frame, 0)[hits[1]]
        shares = shapely.area(shapely.intersection(ours, theirs)) / shapely.area(ours)
        for j, i, share in zip(*hits, shares, strict=True):
            if share > 0:
                yield outer[i], inner[j], float(share)


def _by_frame(grids: Sequence[Grid]) -> dict[str, list[int]]:
    """Indices of the scenes of each CRS."""
    by_frame: dict[str, list[int]] = defaultdict(list)
    for index, grid in enumerate(grids):
        if grid.frame not in (RAS_MM, PIXEL) and grid.ndim == 2:
            by_frame[grid.frame].append(index)
    return by_frame


def _footprints(grids: Sequence[Grid], source: str, target: str, slack: float) -> Shaped[np.ndarray, "..."]:
    """Polygons of the grids, all of the CRS ``source``, in ``target``; None where they can't be transformed.

    They run along the outer edges of the border cells, or ``slack`` cells within them.
    """
    import shapely

    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], dtype=float)
    edges = np.stack([corners, np.roll(corners, -1, axis=0)])
    outline = (edges[0, :, None] + (edges[1] - edges[0])[:, None] * _EDGE[:, None]).reshape(-1, 2)
    extents = [np.array(grid.shape) - 2 * slack for grid in grids]
    points = np.stack([g.to_world(outline * e - 0.5 + slack) for g, e in zip(grids, extents, strict=True)])
    if source != target:
        points = _moved(points, source, target)
    polygons = np.full(len(points), None, dtype=object)
    finite = np.isfinite(points).all(axis=(1, 2))
    polygons[finite] = shapely.polygons(points[finite])
    polygons[~shapely.is_valid(polygons)] = None
    return polygons


def _moved(points: Float[np.ndarray, "n m 2"], source: str, target: str) -> Float[np.ndarray, "n m 2"]:
    """Outlines in another CRS; NaN where PROJ finds no place for one, as it is too far from the CRS's area."""
    from rasterio._err import CPLE_BaseError  # what PROJ's refusals raise; rasterio.errors does not have it
    from rasterio.crs import CRS
    from rasterio.warp import transform

    try:
        xy = transform(CRS.from_wkt(source), CRS.from_wkt(target), *points.reshape(-1, 2).T.tolist())
        return np.array(xy, dtype=np.float64).T.reshape(points.shape)
    except CPLE_BaseError:
        if len(points) == 1:
            return np.full_like(points, np.nan)
        return np.concatenate([_moved(points[k : k + 1], source, target) for k in range(len(points))])


def _shared_pixels(train: Sequence[Case], val: _HeldOut, open: _Open, tile: int, windows: int) -> list[Leak]:
    holders: dict[bytes, list[int]] = defaultdict(list)
    sizes = []
    for j, case in enumerate(val):
        tiles = _tiles(open(replace(case, label=None)), tile, windows)
        sizes.append(len(tiles))
        for digest in tiles:
            holders[digest].append(j)
    shared: dict[tuple[int, int], int] = defaultdict(int)
    for i, case in enumerate(train):
        for digest in _tiles(open(replace(case, label=None)), tile, windows):
            for j in holders.get(digest, ()):
                shared[j, i] += 1
    copies = []
    for (j, i), n in sorted(shared.items()):
        one, other, share = train[i].id, val[j].id, n / sizes[j]
        what = f"training case {one} holds {n} of {sizes[j]} tiles ({_percent(share)}) of {val.part(j)} case {other}"
        copies.append(Leak("pixels", one, other, share, f"{what}, cell for cell"))
    return copies


def _tiles(reader: Opened, tile: int, windows: int) -> set[bytes]:
    """Digests of the tiles of a case that are not plain."""
    sides = [min(tile, n) for n in reader.grid.shape]
    counts = [n // side for n, side in zip(reader.grid.shape, sides, strict=True)]
    starts = list(product(*(range(0, n, _WINDOW) for n in counts)))
    positions = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), windows)).round().astype(int))
    hashes: set[bytes] = set()
    for start in (starts[k] for k in positions):
        stop = [min(a + _WINDOW, n) for a, n in zip(start, counts, strict=True)]
        scale = np.array(sides)
        image = reader.read(Box(tuple((scale * start).tolist()), tuple((scale * stop).tolist()))).planes
        key = repr(sides).encode()  # tiles of other shapes may have the same bytes
        hashes |= {hashlib.blake2b(cells, digest_size=16, key=key).digest() for cells in _varied(image, sides)}
    return hashes


def _varied(image: Float[np.ndarray, "c *s"], sides: Sequence[int]) -> Float[np.ndarray, "n c *t"]:
    """The tiles of an image, which they fill, that are not plain."""
    split = [k for n, side in zip(image.shape[1:], sides, strict=True) for k in (n // side, side)]
    d = len(sides)
    order = [*range(1, 2 * d, 2), 0, *range(2, 2 * d + 1, 2)]
    tiles = image.reshape(len(image), *split).transpose(order).reshape(-1, len(image), *sides)
    flat = tiles.reshape(len(tiles), len(image), -1)
    step = min(sides[-1] + 1, flat.shape[-1] - 1)  # the cell diagonally below, so that stripes are seen either way
    differs = (flat[..., step:] != flat[..., :-step]).any(axis=1) if step else np.zeros((len(flat), 1), dtype=bool)
    return np.ascontiguousarray(tiles[differs.mean(axis=1) >= _VARIED])
