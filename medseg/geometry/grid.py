"""Grid: the shape, position and orientation of an array of cells. The only carrier of geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.geometry.box import Box

RAS_MM = "ras_mm"
"""Frame of medical volumes: millimetres towards the patient's right, anterior, superior."""
PIXEL = "pixel"
"""Frame of images without a world: the index itself."""

_EARTH_RADIUS_M = 6_371_009.0


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells on a regular lattice.

    Attributes:
        shape: Cells on each of the d array axes.
        affine: ``[d + 1, d + 1]`` float64; maps an index (in array axis order, integers at cell
            centres) to world coordinates. Scenes have the axes row, column and the world x, y.
        frame: ``RAS_MM``, ``PIXEL``, or a CRS as WKT.
    """

    shape: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    frame: str = RAS_MM

    def __post_init__(self) -> None:
        d = len(self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (d + 1, d + 1):
            raise InputError(f"grid: got an affine of shape {affine.shape} for {d} axes, expected {(d + 1, d + 1)}")
        with np.errstate(over="ignore", invalid="ignore"):  # axes of a broken file may be 1e200 long, or 1e-300
            least = 1e-6 * np.linalg.norm(affine[:d, :d], axis=0).prod()
            regular = bool(abs(np.linalg.det(affine[:d, :d])) > least > 0)
        if not (np.isfinite(affine).all() and regular):
            raise InputError(f"grid: the affine is singular or not finite: {affine.tolist()}; fix the file's header")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(s) for s in self.shape))

    @property
    def ndim(self) -> int:
        """Number of axes d."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring cell centres along each array axis, in ``unit``.

        Degrees of a geographic CRS are metres at the grid's centre: a cell of 0.0002 by 0.0002 degrees
        at latitude 60 is 22 m high and 11 m wide.
        """
        scale = np.array(_metres_per_unit(self.frame) or self._metres_per_degree())
        return tuple(float(v) for v in np.linalg.norm(self.affine[:-1, :-1] * scale[: self.ndim, None], axis=0))

    def _metres_per_degree(self) -> tuple[float, float]:
        """Length of a degree of longitude and of latitude at the grid's centre, on a sphere."""
        latitude = self.to_world([(np.array(self.shape) - 1) / 2])[0, 1]
        metres = np.deg2rad(1) * _EARTH_RADIUS_M
        return float(metres * np.cos(np.deg2rad(latitude))), float(metres)

    @property
    def sheared(self) -> bool:
        """Whether two axes of a volume are more than half a degree off a right angle, as those of a tilted gantry."""
        if self.frame != RAS_MM:
            return False
        cosines = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0)
        return bool(np.abs(cosines.T @ cosines - np.eye(self.ndim)).max() > np.sin(np.deg2rad(0.5)))

    @property
    def unit(self) -> str:
        """``mm``, ``px``, or ``m`` for a CRS, whatever its own unit."""
        return {RAS_MM: "mm", PIXEL: "px"}.get(self.frame, "m")

    @classmethod
    def regular(cls, shape: Sequence[int], spacing: Sequence[float], frame: str = RAS_MM) -> Grid:
        """Axis-aligned grid whose first cell centre is the origin."""
        return cls(tuple(shape), np.diag([*map(float, spacing), 1.0]), frame)

    def to_world(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World coordinates ``[n, d]`` of (fractional) indices ``[n, d]``."""
        points = np.asarray(index, dtype=np.float64)
        return np.asarray(points @ self.affine[:-1, :-1].T + self.affine[:-1, -1], dtype=np.float64)

    def to_index(self, world: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Fractional indices ``[n, d]`` of world coordinates ``[n, d]``."""
        points = np.asarray(world, dtype=np.float64) - self.affine[:-1, -1]
        return np.asarray(np.linalg.solve(self.affine[:-1, :-1], points.T).T, dtype=np.float64)

    def crop(self, box: Box) -> Grid:
        """Grid of the cells of ``box``, which may overhang this one (padding)."""
        affine = self.affine.copy()
        affine[:-1, -1] = self.to_world([box.start])[0]
        affine.setflags(write=False)
        part = copy(self)  # its axes are checked already, which would take longer than all else here
        vars(part).update(shape=tuple(map(int, box.shape)), affine=affine)
        return part

    def reorient(self, axes: Sequence[int], flips: Sequence[bool]) -> Grid:
        """Grid of ``np.flip(array.transpose(axes), where flips)``: new axis j is old axis ``axes[j]``."""
        shape = tuple(self.shape[a] for a in axes)
        step = np.zeros((self.ndim + 1, self.ndim + 1))
        step[-1, -1] = 1
        for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
            step[old, new] = -1 if flip else 1
            step[old, -1] = shape[new] - 1 if flip else 0
        return Grid(shape, self.affine @ step, self.frame)

    def canonical(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """(axes, flips) for ``reorient`` that bring array axes closest to the world axes, increasing.

        For ``RAS_MM``, axis 0 of the result runs towards the right, 1 anterior, 2 superior. Oblique
        grids stay oblique. Grids of other frames are left as they are.
        """
        if self.frame != RAS_MM:
            return tuple(range(self.ndim)), (False,) * self.ndim
        cosines = self.affine[:-1, :-1] / np.linalg.norm(self.affine[:-1, :-1], axis=0)
        strength = np.abs(cosines)
        axes = [-1] * self.ndim
        for _ in range(self.ndim):  # greedy, as the axis that is clearest decides first
            world, array = np.unravel_index(np.argmax(strength), strength.shape)
            axes[int(world)] = int(array)
            strength[world, :] = strength[:, array] = -1
        return tuple(axes), tuple(bool(cosines[w, a] < 0) for w, a in enumerate(axes))

    @property
    def orientation(self) -> str:
        """Where each array axis of a volume runs: towards R or L, A or P, S or I; empty in other frames.

        Oblique axes have the letter of the direction that they are closest to, as in ``canonical``.

        Example:
            >>> Grid((4, 5, 6), np.diag([-1.0, 1.0, 3.0, 1.0])).orientation
            'LAS'
        """
        if self.frame != RAS_MM:
            return ""
        axes, flips = self.canonical()
        letters = {axis: "LPI"[world] if flips[world] else "RAS"[world] for world, axis in enumerate(axes)}
        return "".join(letters[axis] for axis in range(self.ndim))

    def resampled(self, spacing: Sequence[float]) -> Grid:
        """Grid over the same extent (outer cell corners) with about this spacing.

        The shape is ``round(old spacing / new spacing * shape)``, at least 1; the spacing is then
        adjusted so that the extents agree exactly.
        """
        ratio = np.asarray(self.spacing) / np.asarray(spacing, dtype=np.float64)
        return self.resized([max(1, int(n)) for n in np.round(ratio * self.shape)])

    def resized(self, shape: Sequence[int]) -> Grid:
        """Grid over the same extent (outer cell corners) with this many cells."""
        scale = np.asarray(self.shape) / np.asarray(shape)
        step = np.diag([*scale, 1.0])
        step[:-1, -1] = (scale - 1) / 2
        return Grid(tuple(shape), self.affine @ step, self.frame)

    def offset_from(self, other: Grid) -> float:
        """Largest displacement between the corners of the two grids, in cells of this one.

        Infinite if shapes or frames differ.
        """
        if self.shape != other.shape or self.frame != other.frame:
            return float("inf")
        corners = np.array(list(product(*[(0, max(s - 1, 1)) for s in self.shape])), dtype=np.float64)
        moved = self.to_index(other.to_world(corners))
        return float(np.linalg.norm(moved - corners, axis=1).max())

    def to_dict(self) -> dict[str, object]:
        """JSON-able form; ``from_dict`` is its inverse."""
        return {"shape": list(self.shape), "affine": self.affine.tolist(), "frame": self.frame}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Grid:
        """Rebuild what ``to_dict`` gave."""
        return cls(tuple(stored["shape"]), np.array(stored["affine"]), stored["frame"])


@lru_cache(maxsize=64)
def _metres_per_unit(frame: str) -> tuple[float, ...] | None:
    """What world coordinates are multiplied by to be in ``Grid.unit``; None for degrees."""
    if frame in (RAS_MM, PIXEL):
        return (1.0, 1.0, 1.0)
    from rasterio.crs import CRS

    crs = CRS.from_wkt(frame)
    return None if crs.is_geographic else (float(crs.linear_units_factor[1]),) * 3


def reorient(array: Shaped[np.ndarray, "..."], axes: Sequence[int], flips: Sequence[bool]) -> Shaped[np.ndarray, "..."]:
    """Permute and flip the last axes of ``array`` as ``Grid.reorient`` does for its grid (a view)."""
    lead = array.ndim - len(axes)
    moved = array.transpose([*range(lead), *(lead + a for a in axes)])
    return np.flip(moved, tuple(lead + i for i, flip in enumerate(flips) if flip))


def reorient_back(
    array: Shaped[np.ndarray, "..."], axes: Sequence[int], flips: Sequence[bool]
) -> Shaped[np.ndarray, "..."]:
    """Undo ``reorient`` (a view)."""
    lead = array.ndim - len(axes)
    unflipped = np.flip(array, tuple(lead + i for i, flip in enumerate(flips) if flip))
    return unflipped.transpose([*range(lead), *(lead + int(a) for a in np.argsort(axes))])
