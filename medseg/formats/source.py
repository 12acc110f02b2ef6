"""Source: an opened file that knows its grid and reads windows; what all formats share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Shaped

from medseg.errors import InputError
from medseg.formats.sizes import check_memory
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Left times an affine of DICOM and ITK (towards left, posterior, superior) is one of ``RAS_MM``."""


class Source(ABC):
    """An image on disk, of which only the header has been read. Small, and can be pickled.

    Attributes:
        path: File, or folder of a series.
        grid: Geometry.
        n_channels: Channels of the file.
        dtype: Type that ``read`` gives: float32 if the file holds floats or scales its values, else
            the integer type of the file, in native byte order.
        names: Names of the channels, if the file has them; else empty.
        warnings: Doubts about a file that can be read, each in a few words.
    """

    path: Path
    grid: Grid
    n_channels: int
    dtype: np.dtype
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def read(self, box: Box | None = None, channels: Sequence[int] | None = None) -> Shaped[np.ndarray, "c *s"]:
        """Values in the file's own unit (slope and intercept applied), C-contiguous.

        Args:
            box: Cells to read, inside the grid; None reads all. Formats that can, decode no more.
            channels: Channels to read, in this order; None reads all.

        Raises:
            InputError: The box overhangs the grid, or the file is truncated or damaged.
        """
        return self._decoded(*self._asked(box, channels))

    def read_valid(
        self, box: Box | None = None, channels: Sequence[int] | None = None
    ) -> tuple[Shaped[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        """What ``read`` gives, and which cells hold data in every channel read.

        Cells without data (nodata values, masks of the file) keep whatever value the file has there.
        NaN is left to the caller: it is nodata in a scene and a defect in a volume.
        """
        cells, valid = self.read_known(box, channels)
        return cells, np.ones(cells.shape[1:], dtype=bool) if valid is None else valid

    def read_known(
        self, box: Box | None = None, channels: Sequence[int] | None = None
    ) -> tuple[Shaped[np.ndarray, "c *s"], Bool[np.ndarray, " *s"] | None]:
        """The result of ``read_valid``, with None instead of the mask where all cells clearly hold data."""
        box, numbers = self._asked(box, channels)
        cells = self._decoded(box, numbers)
        return cells, None if 0 in box.shape else self._valid(box, numbers, cells)

    def _asked(self, box: Box | None, channels: Sequence[int] | None) -> tuple[Box, tuple[int, ...]]:
        """Window and channels to read, the window inside the grid."""
        box = box or Box.whole(self.grid.shape)
        if len(box.shape) != self.grid.ndim or box.clip(self.grid.shape) != box:
            raise InputError(
                f"{self.path}: the window {box.start} to {box.stop} is not inside the grid {self.grid.shape}; "
                "clip it first"
            )
        return box, tuple(range(self.n_channels)) if channels is None else tuple(channels)

    def _decoded(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "c *s"]:
        if 0 in box.shape:
            return np.empty((len(channels), *box.shape), dtype=self.dtype)
        check_memory(self.path, math.prod(box.shape) * len(channels) * self.dtype.itemsize)
        with damage_told(self.path, MemoryError):
            cells = self._read(box, channels)
        with np.errstate(over="ignore"):
            narrow = np.ascontiguousarray(cells, dtype=self.dtype)
        if cells.dtype == np.float64 and narrow.dtype == np.float32:
            _refuse_overflow(self.path, cells, narrow)
        return narrow

    @abstractmethod
    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        """Scaled values ``[c, *s]`` of a box that is inside the grid and not empty, in any type."""

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        """Where all of ``channels`` hold data, of which ``_read`` gave ``cells``; None means everywhere."""
        return None


def _refuse_overflow(path: Path, exact: npt.NDArray[np.float64], narrow: npt.NDArray[np.float32]) -> None:
    """Refuse finite values that became infinite."""
    lost = np.isinf(narrow)
    if lost.any() and np.isfinite(exact[lost]).any():
        largest = exact[lost][np.isfinite(exact[lost])][0]
        raise InputError(
            f"{path}: holds the value {largest:.4g}, which overflows float32 (largest 3.4e38); "
            "expected smaller values; scale them, or set such cells to the nodata value or 0"
        )


@contextmanager
def damage_told(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Turn the exceptions by which a library reports a bad file into one line of ``InputError``."""
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read, expected a complete file that is readable; copy or convert it again "
            f"({reason[-300:]})"
        ) from error


def read_dtype(path: Path, stored: np.dtype, *, scaled: bool) -> np.dtype:
    """Type that ``Source.read`` gives for a stored type.

    Raises:
        InputError: Complex numbers or colours.
    """
    if stored.kind not in "iuf":
        what = "complex numbers" if stored.kind == "c" else "colours (RGB)"
        raise InputError(f"{path}: holds {what}, real numbers were expected; save each part as a channel of its own")
    return np.dtype(np.float32) if scaled or stored.kind == "f" else stored.newbyteorder("=")


def file_grid(path: Path, shape: Sequence[int], affine: npt.NDArray[np.float64]) -> Grid:
    """``Grid`` in ``RAS_MM`` of at least one cell, whose error names the file."""
    if min(shape) < 1:
        raise InputError(
            f"{path}: got the shape {tuple(shape)}, expected at least one cell on each axis; convert it again"
        )
    try:
        grid = Grid(tuple(shape), affine)
        np.linalg.inv(grid.affine)
        return grid
    except (InputError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path}: {error}") from error
