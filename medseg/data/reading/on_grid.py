"""OnGrid: a file of a case on the grid of its first image: accepted, reordered, aligned, warped or rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medseg.data.case import Case
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.formats.aligned import aligned
from medseg.formats.georeference import crs_name, same_frame
from medseg.formats.reoriented import on_axes_of
from medseg.formats.source import Source
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.geometry.tolerance import GRID_TOLERANCE, way_out

Order = Literal["nearest", "linear"]
"""Interpolation of a file that is aligned or warped."""


@dataclass(frozen=True)
class OnGrid:
    """Brings the files of a case onto one grid.

    Attributes:
        case: The case, for messages.
        reference: Grid of its first image.
        reading: Options of reading.
        notes: List that gets the changes that brought a file onto the grid.
        warnings: List that gets the doubts about a file, each once.
    """

    case: Case
    reference: Grid
    reading: ReadOptions
    notes: list[str]
    warnings: list[str]

    def __call__(self, source: Source, order: Order) -> Source:
        """The file on the grid of the first image.

        Raises:
            InputError: It lies on another grid, or in another CRS, and the options reject that.
        """
        reference = self.reference
        turned = on_axes_of(source, reference)
        grid = turned.grid
        if grid.shape == reference.shape and grid.frame == PIXEL and reference.frame != RAS_MM:
            return source  # a mask without a georeference
        if _is_scene(reference) and _is_scene(grid):
            return self._scene(source, turned, order)
        offset = _offset(grid, reference) if grid.frame == reference.frame else np.inf
        if self._tolerated(offset):
            return self._accepted(source, turned, offset)
        raise self._displaced(source, offset, turned=turned is not source)

    def _scene(self, source: Source, turned: Source, order: Order) -> Source:
        """A file with a CRS on the grid of a scene."""
        grid = turned.grid
        if not same_frame(grid.frame, self.reference.frame):
            return self._warped(source, grid, order)
        offset = _offset(grid, self.reference)
        if self._tolerated(offset):
            return self._accepted(source, turned, offset)
        if self.reading.other_grid != "align":
            raise self._displaced(source, offset, turned=turned is not source)
        difference = f"it lies {offset:.3g} cells off" if np.isfinite(offset) else f"its shape is {grid.shape}"
        self.notes.append(f"{self._where(source)}: {difference}; aligned to the {order} cells")
        return aligned(source, self.reference, order=order)

    def _warped(self, source: Source, grid: Grid, order: Order) -> Source:
        """A file in another CRS, warped where the options say so."""
        own, expected = (crs_name(g.frame) for g in (grid, self.reference))
        if self.reading.other_crs != "warp":
            raise InputError(
                f"{self._where(source)}: its CRS is {own}, expected {expected}; data.other_crs=warp warps it as it is "
                "read"
            )
        self.notes.append(f"{self._where(source)}: warped from {own} to {expected}")
        return aligned(source, self.reference, order=order)

    def _tolerated(self, offset: float) -> bool:
        """Whether cells that lie ``offset`` cells apart count as the same."""
        return offset <= self.reading.grid_tolerance

    def _accepted(self, source: Source, turned: Source, offset: float) -> Source:
        """A file whose cells are those of the first image, in its order of axes; notes what differs."""
        if turned is not source:
            self.notes.append(
                f"case {self.case.id}: {source.path} is stored in axis order {source.grid.orientation}; reordered to "
                f"{self.reference.orientation}, that of {self.case.images[0]}"
            )
        if offset > GRID_TOLERANCE:
            self.warnings.append(
                f"files that lie more than {GRID_TOLERANCE:g} cells apart are taken as one "
                f"(data.grid_tolerance={self.reading.grid_tolerance:g})"
            )
        return turned

    def _displaced(self, source: Source, offset: float, *, turned: bool) -> InputError:
        """The error of a file that lies ``offset`` cells off, infinitely many where grids cannot be compared."""
        reference, where = self.reference, self._where(source)
        if not np.isfinite(offset):
            own, expected = (f"shape {g.shape} in {crs_name(g.frame)}" for g in (source.grid, reference))
            return InputError(
                f"{where}: {own}, expected {expected}; resample it onto that grid, or check that the files belong "
                "together"
            )
        axes = f" with its axes in the order {reference.orientation}" if turned else ""
        return InputError(
            f"{where}: displaced by up to {offset:.3g} voxels{axes}, allowed are {self.reading.grid_tolerance:g}; "
            f"{way_out(offset, 'data.grid_tolerance')}"
        )

    def _where(self, source: Source) -> str:
        """Beginning of notes and messages about a file on another grid."""
        return f"case {self.case.id}: {source.path} does not lie on the grid of {self.case.images[0]}"


def _is_scene(grid: Grid) -> bool:
    """Whether a grid lies in a CRS."""
    return grid.frame not in (RAS_MM, PIXEL)


def _offset(grid: Grid, reference: Grid) -> float:
    """Largest displacement of corresponding corners, in cells; infinite for other shapes."""
    return Grid(grid.shape, grid.affine, reference.frame).offset_from(reference)
