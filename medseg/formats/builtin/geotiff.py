"""GeoTIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.format import Format, OpenOptions, WriteOptions
from medseg.formats.source import Source
from medseg.geometry.grid import Grid

_SIBLINGS = (".aux.xml", ".msk", ".ovr")
"""Added to the name of a raster: statistics and nodata, a mask, overviews."""


class GeoTiff(Format):
    """GeoTIFF with any number of bands."""

    suffixes = (".tif", ".tiff")
    kind = "scene"
    written = suffixes
    many_channels = True

    def open(self, path: Path, options: OpenOptions) -> Source:
        """Read the header of a file."""
        from medseg.formats import geotiff

        return geotiff.open(path, alpha=options.alpha)

    def write(self, path: Path, cells: Shaped[np.ndarray, "c *s"], grid: Grid, options: WriteOptions) -> None:
        """Write a tiled, compressed file."""
        from medseg.formats import geotiff_write

        geotiff_write.write(
            path, cells, grid,
            like=options.like, labels=options.labels, nodata=options.nodata, names=options.names,
        )  # fmt: skip

    def check_cells(self, path: Path, cells: Shaped[np.ndarray, "c *s"], options: WriteOptions) -> None:
        """Check that cells of this type can be nodata."""
        dtype, nodata = cells.dtype, options.nodata
        if nodata is None or dtype.kind == "f" or np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
            return
        raise InputError(
            f"{path}: got nodata {nodata} for cells of {dtype}, which do not hold it; choose another value"
        )

    def companions(self, path: Path) -> list[Path]:
        """What GDAL keeps next to a raster."""
        return [file for ending in _SIBLINGS if (file := path.with_name(path.name + ending)).is_file()]
