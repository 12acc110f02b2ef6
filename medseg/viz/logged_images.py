"""Pictures: views of a case as arrays, with masks that a tracker can lay over them and take away again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from medseg.geometry.grid import Grid
from medseg.labels import IGNORE, LabelTable
from medseg.viz.overlay import Panels
from medseg.viz.planes import Plane

_ALPHA = 0.5
_IGNORED = (230, 230, 230)
_GAP = 4
_LARGEST = 1200  # cells a side, as of composites


@dataclass(frozen=True)
class Picture:
    """One view of a case.

    Attributes:
        ground: What is seen below the masks.
        caption: Which case and view it is.
        masks: By name (``label``, ``prediction``), the class of each cell.
        classes: By class, its name and its colour; the cells of a class without a colour stay clear.
    """

    ground: UInt8[np.ndarray, "h w 3"]
    caption: str
    masks: Mapping[str, Int[np.ndarray, "h w"]] = field(default_factory=dict)
    classes: Mapping[int, tuple[str, tuple[int, int, int] | None]] = field(default_factory=dict)

    @property
    def names(self) -> dict[int, str]:
        """Class names."""
        return {index: name for index, (name, _) in self.classes.items()}

    def side_by_side(self) -> UInt8[np.ndarray, "h w2 3"]:
        """The ground, and next to it the ground below each mask, for trackers that can't toggle masks."""
        gap = np.full((len(self.ground), _GAP, 3), 255, dtype=np.uint8)
        parts = [self.ground, *(self._below(mask) for mask in self.masks.values())]
        return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=1)

    def _below(self, mask: Int[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
        shown = self.ground.astype(np.float32)
        for index, (_, colour) in self.classes.items():
            if colour is not None:
                cells = mask == index
                shown[cells] = (1 - _ALPHA) * shown[cells] + _ALPHA * np.array(colour, dtype=np.float32)
        return shown.round().astype(np.uint8)


def pictures(panels: Panels, title: str) -> list[Picture]:
    """Every view of a case: one in 2D, three orthogonal ones in 3D, cut as ``Panels.draw`` does.

    Cells of volumes are repeated until a cell of the picture is square, and the views of a case are of one size,
    with the background around them, as galleries want it. Ignored cells are a class of their own, after the last.
    """
    views = [_view(panels, plane, title) for plane in panels.planes]
    height, width = (max(view.ground.shape[axis] for view in views) for axis in (0, 1))
    outside = 0 if panels.table.background else panels.table.n_classes
    return [_padded(view, height, width, outside) for view in views]


def case_title(case: str, labels: LabelTable, annotated: Bool[np.ndarray, " k"] | None) -> str:
    """The name of a case, and what its label annotates where that is not everything.

    Example:
        >>> table = LabelTable.declare({"background": 0, "liver": 1, "spleen": 2})
        >>> case_title("a", table, np.array([True, True, False]))
        'a (annotated: liver)'
    """
    if annotated is None or annotated.all():
        return case
    own = annotated[-len(labels.targets) :]
    return (
        f"{case} (annotated: {', '.join(name for (name, _), named in zip(labels.targets, own, strict=True) if named)})"
    )


def classes_of(table: LabelTable) -> dict[int, tuple[str, tuple[int, int, int] | None]]:
    """Names and colours of a table's classes, the background clear, and of ignored cells as the class after the last.

    Example:
        >>> classes_of(LabelTable.declare({"background": 0, "liver": 1}))[0]
        ('background', None)
    """
    named = enumerate(zip(table.titles, table.classes, strict=True))
    classes = {i: (title, None if table.background and i == 0 else one.colour) for i, (title, one) in named}
    return {**classes, table.n_classes: ("ignored", _IGNORED)}


def _view(panels: Panels, plane: Plane, title: str) -> Picture:
    index = panels.index(plane)
    ground = np.stack([plane.cut(band, index) for band in panels.ground], axis=-1)
    rows, columns = _squared(ground.shape[:2], panels.grid, plane)
    label = np.where(panels.label == IGNORE, panels.table.n_classes, panels.label)
    named = {"label": label, "prediction": panels.pred}
    masks = {name: plane.cut(m, index)[rows][:, columns] for name, m in named.items() if m is not None}
    caption = title if plane.through is None else f"{title}: {plane.name} {index}"
    shown = (ground[rows][:, columns] * 255).round().astype(np.uint8)
    return Picture(
        shown, caption, {name: mask.astype(np.int64) for name, mask in masks.items()}, classes_of(panels.table)
    )


def _squared(cells: Sequence[int], grid: Grid, plane: Plane) -> tuple[Int[np.ndarray, " h"], Int[np.ndarray, " w"]]:
    """Which row and column of a cut each row and column of the picture shows; in 2D each its own.

    Args:
        cells: Rows and columns of the cut; of a large image fewer than its grid has.
        grid: Grid of the case.
        plane: Plane of the cut.
    """
    if plane.through is None:
        return np.arange(cells[0]), np.arange(cells[1])
    lengths = np.array([n * grid.spacing[axis] for n, axis in zip(cells, (plane.rows, plane.columns), strict=True)])
    side = max(min(grid.spacing[plane.rows], grid.spacing[plane.columns]), lengths.max() / _LARGEST)
    rows, columns = (_nearest(n, max(1, round(float(length / side)))) for n, length in zip(cells, lengths, strict=True))
    return rows, columns


def _nearest(cells: int, shown: int) -> Int[np.ndarray, " n"]:
    return ((np.arange(shown) + 0.5) * cells / shown).astype(np.int64)


def _padded(view: Picture, height: int, width: int, outside: int) -> Picture:
    masks = {name: _centred(mask, height, width, outside) for name, mask in view.masks.items()}
    return replace(view, ground=_centred(view.ground, height, width, 0), masks=masks)


def _centred(array: Shaped[np.ndarray, "..."], height: int, width: int, outside: int) -> Shaped[np.ndarray, "..."]:
    spare = [size - n for size, n in zip((height, width), array.shape, strict=False)]
    margins: Sequence[tuple[int, int]] = [(n // 2, n - n // 2) for n in spare] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, margins, constant_values=outside)
