"""Orientation of an array on a screen: its planes, the upward direction, and the letters at the edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.geometry.grid import RAS_MM, Grid


@dataclass(frozen=True)
class Plane:
    """One view of a canonical array (see ``planes_of``).

    Attributes:
        name: Shown above the view.
        through: Axis that is cut, None if there is none (2D).
        rows: Axis that runs down the screen.
        columns: Axis that runs across the screen.
        flipped: Whether each of (rows, columns) is shown from its last index to its first.
        edges: Letters at the (left, right, top, bottom) edge; empty where directions have no names.
    """

    name: str
    through: int | None
    rows: int
    columns: int
    flipped: tuple[bool, bool]
    edges: tuple[str, str, str, str] = ("", "", "", "")

    def cut(self, array: Shaped[np.ndarray, "..."], index: int) -> Shaped[np.ndarray, "..."]:
        """Cells ``[rows, columns]`` as they appear on the screen, at ``index`` of the cut axis."""
        flat = array if self.through is None else array.take(index, axis=self.through)
        upright = flat if self.rows < self.columns else flat.T
        return np.flip(upright, tuple(axis for axis, flip in enumerate(self.flipped) if flip))


def planes_of(grid: Grid) -> tuple[Plane, ...]:
    """Views of an array that ``grid.canonical()`` has reoriented: one in 2D, three orthogonal ones in 3D.

    Patients (``RAS_MM``) are seen in radiological convention: axial from the feet and coronal from the
    front, so the patient's right is on the left of the screen; sagittal with the front on the left.
    Other arrays are seen as they are stored, first axis down, second across.
    """
    if grid.frame == RAS_MM:
        axial = Plane("axial", 2 if grid.ndim == 3 else None, 1, 0, (True, True), ("R", "L", "A", "P"))
        coronal = Plane("coronal", 1, 2, 0, (True, True), ("R", "L", "S", "I"))
        sagittal = Plane("sagittal", 0, 2, 1, (True, True), ("A", "P", "S", "I"))
        return (axial, coronal, sagittal) if grid.ndim == 3 else (axial,)
    if grid.ndim == 2:
        return (Plane("", None, 0, 1, (False, False)),)
    return tuple(
        Plane(f"across axis {cut}", cut, rows, columns, (False, False))
        for cut, rows, columns in ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    )


def fullest(mask: npt.NDArray[np.bool_], plane: Plane) -> int:
    """Index of the cut with the most true cells; the middle one if there are none, 0 in 2D."""
    if plane.through is None:
        return 0
    cells = mask.sum(axis=tuple(a for a in range(mask.ndim) if a != plane.through))
    return int(cells.argmax()) if cells.any() else mask.shape[plane.through] // 2
