"""NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medseg.formats.format import Format, OpenOptions, WriteOptions
from medseg.formats.source import Source
from medseg.geometry.grid import Grid


class Nifti(Format):
    """NIfTI-1 and NIfTI-2."""

    suffixes = (".nii.gz", ".nii")
    kind = "volume"
    written = suffixes

    def open(self, path: Path, options: OpenOptions) -> Source:
        """Read the header of a file."""
        from medseg.formats import nifti

        return nifti.open(path)

    def write(self, path: Path, cells: Shaped[np.ndarray, "c *s"], grid: Grid, options: WriteOptions) -> None:
        """Write a file, compressed if it ends in ``.gz``."""
        from medseg.formats import nifti

        nifti.write(path, cells[0], grid, like=options.like)
