"""PNG, JPEG and BMP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medseg.formats.format import Format, OpenOptions, WriteOptions
from medseg.formats.source import Source
from medseg.geometry.grid import Grid


class Image(Format):
    """Pictures without a world."""

    suffixes = (".png", ".jpg", ".jpeg", ".bmp")
    kind = "image"
    written = (".png",)
    unwritten = "it may change values"
    many_channels = True

    def open(self, path: Path, options: OpenOptions) -> Source:
        """Read the header of a file."""
        from medseg.formats import image

        return image.open(path)

    def write(self, path: Path, cells: Shaped[np.ndarray, "c *s"], grid: Grid, options: WriteOptions) -> None:
        """Write a PNG file."""
        from medseg.formats import image

        image.write(path, cells, grid, labels=options.labels)

    def check_cells(self, path: Path, cells: Shaped[np.ndarray, "c *s"], options: WriteOptions) -> None:
        """Check that PNG holds the channels, the type and the values."""
        from medseg.formats import image

        image.refuse(path, cells)
