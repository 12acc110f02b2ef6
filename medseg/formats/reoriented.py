"""A volume seen with its axes in another order and direction: the same cells, nothing is resampled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped

from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.geometry.grid import RAS_MM, Grid, reorient, reorient_back
from medseg.geometry.permuted import turn_onto, unmoved


class Reoriented(Source):
    """A source whose arrays are permuted and flipped as ``Grid.reorient`` does; windows read no more than they need.

    Args:
        source: A volume or scene.
        axes: New axis j is axis ``axes[j]`` of the source.
        flips: Whether each new axis runs the other way.
    """

    def __init__(self, source: Source, axes: Sequence[int], flips: Sequence[bool]) -> None:
        self.path, self.grid = source.path, source.grid.reorient(axes, flips)
        self.n_channels, self.dtype, self.names = source.n_channels, source.dtype, source.names
        self._source, self._axes, self._flips = source, tuple(axes), tuple(flips)

    def _read(self, box: Box, channels: tuple[int, ...]) -> npt.NDArray[np.generic]:
        return reorient(self._source.read(self._within(box), channels), self._axes, self._flips)

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        own = np.ascontiguousarray(reorient_back(cells, self._axes, self._flips))
        valid = self._source._valid(self._within(box), channels, own)
        return None if valid is None else reorient(valid, self._axes, self._flips)

    def _within(self, box: Box) -> Box:
        """The same cells in the order of the source."""
        start, stop = [0] * len(box.shape), [0] * len(box.shape)
        for new, (old, flip) in enumerate(zip(self._axes, self._flips, strict=True)):
            cells = self.grid.shape[new]
            start[old] = cells - box.stop[new] if flip else box.start[new]
            stop[old] = cells - box.start[new] if flip else box.stop[new]
        return Box(tuple(start), tuple(stop))


def on_axes_of(source: Source, grid: Grid) -> Source:
    """The volume in the axis order of ``grid``; the source itself where it is in that order already, or no volume.

    Only the order of axes follows ``grid``: whether the cells are the same places is for the caller to check.

    Args:
        source: A file of any kind.
        grid: Grid of the reference file.
    """
    turn = turn_onto(source.grid, grid) if grid.frame == RAS_MM else None
    return source if turn is None or unmoved(turn) else Reoriented(source, *turn)
