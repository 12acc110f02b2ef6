"""NRRD and MetaImage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medseg.formats.format import Format, OpenOptions, WriteOptions
from medseg.formats.itk_header import HeaderError, read_header
from medseg.formats.source import Source
from medseg.geometry.grid import Grid


class Itk(Format):
    """NRRD and MetaImage; ``.nhdr`` and ``.mhd`` are headers of a second file, which can't be replaced together."""

    suffixes = (".nrrd", ".nhdr", ".mha", ".mhd")
    kind = "volume"
    written = (".nrrd", ".mha")
    unwritten = "its cells are in a second file"

    def open(self, path: Path, options: OpenOptions) -> Source:
        """Read the header of a file."""
        from medseg.formats import itk

        return itk.open(path)

    def write(self, path: Path, cells: Shaped[np.ndarray, "c *s"], grid: Grid, options: WriteOptions) -> None:
        """Write a compressed file."""
        from medseg.formats import itk

        itk.write(path, cells[0], grid)

    def companions(self, path: Path) -> list[Path]:
        """Data files of a header; none of one that can't be read: opening it says what is wrong."""
        try:
            return list(read_header(path).data_files)
        except (HeaderError, OSError):
            return []

    def label_suffix(self, suffix: str) -> str:
        """Suffix of the label file: that of one file of the same library."""
        return {".nhdr": ".nrrd", ".mhd": ".mha"}.get(suffix, suffix)
