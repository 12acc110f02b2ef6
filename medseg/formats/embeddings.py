"""Embeddings of a cell by published models: AlphaEarth and Tessera, whose 8-bit files are turned into their values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float32, Shaped

from medseg.errors import InputError
from medseg.formats.read_write import open
from medseg.formats.registry import stem, suffix
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.geometry.tolerance import GRID_TOLERANCE

ALPHAEARTH, TESSERA = "alphaearth", "tessera"
_PREFIXES = {ALPHAEARTH: ("A", 2, 64), TESSERA: ("T", 3, 128)}
"""First letter of the names of bands, digits of their numbers, and how many there are."""
KINDS = tuple(_PREFIXES)
"""Kinds of embeddings that are known."""
SCALES = "_scales"
"""End of the stem of a file that holds the scales of Tessera's embeddings."""
_NODATA = -128
"""Value of AlphaEarth's files where there are no data."""
_LARGEST = 1 + 1e-6


def band_names(kind: str) -> tuple[str, ...]:
    """Names of the bands of a kind, in order.

    Example:
        >>> band_names("alphaearth")[:2], band_names("tessera")[-1]
        (('A00', 'A01'), 'T127')
    """
    letter, digits, n = _PREFIXES[kind]
    return tuple(f"{letter}{number:0{digits}d}" for number in range(n))


def embedded(source: Source, kind: str) -> Source:
    """A file of embeddings that reads as values of them.

    Args:
        source: The file.
        kind: One of ``KINDS``; empty for a file of anything else, which is returned as it is.

    Raises:
        InputError: It holds no embeddings of this kind, or those of Tessera without their scales.
    """
    if kind == ALPHAEARTH:
        return AlphaEarth(source)
    return Tessera(source) if kind == TESSERA else source


def scales_path(path: Path) -> Path:
    """File of the scales of a file of Tessera's embeddings.

    Example:
        >>> scales_path(Path("images/scene.tif")).name
        'scene_scales.tif'
    """
    return path.with_name(f"{stem(path)}{SCALES}{suffix(path)}")


class _Embeddings(Source):
    """A file of embeddings, whose bands have the names of their kind."""

    kind: str

    def __init__(self, source: Source) -> None:
        self._source = source
        self.path, self.grid, self.n_channels, self.warnings = (
            source.path, source.grid, source.n_channels, source.warnings,
        )  # fmt: skip
        self.dtype = np.dtype(np.float32)
        usual = band_names(self.kind)
        self.names = source.names if source.names and set(source.names) <= set(usual) else usual
        if len(self.names) != self.n_channels:
            raise InputError(
                f"{self.path}: {self.n_channels} band(s), expected the {len(usual)} of data.embeddings={self.kind}, or "
                f"some with the names {usual[0]} to {usual[-1]}"
            )
        if source.dtype.kind != "f" and source.dtype != np.int8:
            raise InputError(
                f"{self.path}: embeddings of type {source.dtype}, expected int8 as published, or float; write the file "
                "again without changing its values"
            )

    def read_known(
        self, box: Box | None = None, channels: Sequence[int] | None = None
    ) -> tuple[Shaped[np.ndarray, "c *s"], Bool[np.ndarray, " *s"] | None]:
        """See ``Source.read_known``."""
        window, numbers = self._asked(box, channels)
        stored, valid = self._source.read_known(window, numbers)
        values, has_data = self._values(stored, window)
        return values, has_data if valid is None else valid & has_data

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        return self._values(self._source.read(box, channels), box)[0]

    @abstractmethod
    def _values(
        self, stored: Shaped[np.ndarray, "c *s"], box: Box
    ) -> tuple[Float32[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        """Values of what a window of the file stores, and where they are data.

        Raises:
            InputError: They have another scale.
        """


class AlphaEarth(_Embeddings):
    r"""64 numbers for each cell, of a vector of length 1.

    .. math:: e = \operatorname{sign}(q) (q / 127.5)^2

    of 8-bit values q from -127 to 127; -128 has no data. Floating-point files hold e itself.

    References:
        Brown et al., AlphaEarth Foundations, 2025.
    """

    kind = ALPHAEARTH

    def _values(
        self, stored: Shaped[np.ndarray, "c *s"], box: Box
    ) -> tuple[Float32[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        if stored.dtype.kind == "f":
            self._check_range(stored)
            return stored.astype(np.float32), np.ones(stored.shape[1:], dtype=bool)
        share = stored.astype(np.float32) / np.float32(127.5)
        return share * np.abs(share), np.asarray((stored != _NODATA).all(axis=0))

    def _check_range(self, stored: npt.NDArray[np.floating]) -> None:
        """Raise on values that are no part of a vector of length 1; infinite ones have no data."""
        finite = stored[np.isfinite(stored)]
        largest = float(np.abs(finite).max(initial=0))
        if largest > _LARGEST:
            raise InputError(
                f"{self.path}: holds the value {largest:.4g}, AlphaEarth's embeddings are from -1 to 1; give the file "
                "as published (int8), or undo its scale"
            )


class Tessera(_Embeddings):
    """128 numbers for each cell: 8-bit values times the scale of the cell, which a file of its own holds.

    Cells whose scale is 0 or not finite have no data. Floating-point files hold the product.

    References:
        Feng et al., TESSERA, 2025.
    """

    kind = TESSERA

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._scales = self._open_scales() if source.dtype == np.int8 else None

    def _open_scales(self) -> Source:
        """The file of scales.

        Raises:
            InputError: There is none, or it is of other cells.
        """
        path = scales_path(self.path)
        if not path.is_file():
            raise InputError(
                f"{self.path}: got int8 embeddings of Tessera without their scales, expected {path.name} next to them; "
                "add it"
            )
        scales = open(path)
        if scales.n_channels != 1 or scales.grid.offset_from(self.grid) > GRID_TOLERANCE:
            raise InputError(
                f"{path}: {scales.n_channels} band(s) of {scales.grid.shape} cells, expected one scale for each of the "
                f"{self.grid.shape} cells of {self.path.name}"
            )
        return scales

    def _values(
        self, stored: Shaped[np.ndarray, "c *s"], box: Box
    ) -> tuple[Float32[np.ndarray, "c *s"], Bool[np.ndarray, " *s"]]:
        if self._scales is None:
            return stored.astype(np.float32), np.ones(stored.shape[1:], dtype=bool)
        scale, valid = self._scales.read_valid(box, (0,))
        usable = valid & np.isfinite(scale[0]) & (scale[0] != 0)
        return stored.astype(np.float32) * np.where(usable, scale[0], 0).astype(np.float32), usable
