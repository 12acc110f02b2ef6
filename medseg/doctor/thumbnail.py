"""Thumbnails: a small copy of a case, gathered while it is read, to be drawn on a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Num

from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.labels import IGNORE

_SIDE = {2: 320, 3: 96}
"""Cells along the longest side, by number of axes."""
_CHANNELS = 6


@dataclass(frozen=True)
class Thumbnail:
    """Every n-th cell of a case.

    Attributes:
        image: Channels, NaN where there is no data.
        names: Names of the channels.
        label: Training index, or ``IGNORE``; None where there is no label on the image's cells.
        grid: Of both.
    """

    image: Float[np.ndarray, "c *s"]
    names: tuple[str, ...]
    label: Int[np.ndarray, " *s"] | None
    grid: Grid


class ThumbnailTally:
    """Gathers a thumbnail window by window.

    Args:
        grid: Grid of the case.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        steps = [-(-n // _SIDE[grid.ndim]) for n in grid.shape]
        self._steps = tuple(steps) if grid.ndim == 3 else (max(steps),) * grid.ndim  # pictures have square cells
        self._shape = tuple(-(-n // step) for n, step in zip(grid.shape, self._steps, strict=True))
        self._image: dict[str, npt.NDArray[np.float32]] = {}
        self._label: npt.NDArray[np.int16] | None = None

    def add_image(
        self, box: Box, cells: Num[np.ndarray, "c *s"], names: Sequence[str], valid: Bool[np.ndarray, " *s"] | None
    ) -> None:
        """Take the cells of a window that fall on the thumbnail, for the first channels."""
        target, source = self._places(box)
        for name, values in zip(names, cells, strict=True):
            if name not in self._image and len(self._image) >= _CHANNELS:
                continue
            into = self._image.setdefault(name, np.full(self._shape, np.nan, dtype=np.float32))
            taken = values[source].astype(np.float32)
            into[target] = taken if valid is None else np.where(valid[source], taken, np.nan)

    def add_label(self, box: Box, index: Int[np.ndarray, " *s"]) -> None:
        """Add the cells of one window of the label."""
        if self._label is None:
            self._label = np.full(self._shape, IGNORE, dtype=np.int16)
        target, source = self._places(box)
        self._label[target] = index[source]

    def result(self) -> Thumbnail | None:
        """What was gathered, of a volume the axial cut with most foreground; None if no image was."""
        if not self._image:
            return None
        affine = self.grid.affine.copy()
        affine[:-1, :-1] = affine[:-1, :-1] * np.array(self._steps)
        image, label, grid = (
            np.stack(list(self._image.values())),
            self._label,
            Grid(self._shape, affine, self.grid.frame),
        )
        if grid.ndim == 3:
            box = self._cut()
            image, grid = image[(slice(None), *box.slices)].copy(), grid.crop(box)
            label = None if label is None else label[box.slices].copy()
        return Thumbnail(image, tuple(self._image), label, grid)

    def _cut(self) -> Box:
        """The cells of one cut across the axis that runs towards the head."""
        across = self.grid.canonical()[0][2]
        marked = np.zeros(self._shape, dtype=bool) if self._label is None else self._label > 0
        cells = marked.sum(axis=tuple(a for a in range(3) if a != across))
        at = int(cells.argmax()) if cells.any() else self._shape[across] // 2
        start = [at if a == across else 0 for a in range(3)]
        return Box.at(start, [1 if a == across else n for a, n in enumerate(self._shape)])

    def _places(self, box: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Slices of the thumbnail and of the window that are the same cells."""
        target, source = [], []
        for start, stop, step in zip(box.start, box.stop, self._steps, strict=True):
            first, end = -(-start // step), -(-stop // step)
            target.append(slice(first, end))
            source.append(slice(first * step - start, None, step))
        return tuple(target), tuple(source)
