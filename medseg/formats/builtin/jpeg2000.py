"""JPEG 2000."""

from __future__ import annotations

from pathlib import Path

from medseg.formats.builtin.geotiff import GeoTiff
from medseg.formats.format import Format, OpenOptions
from medseg.formats.source import Source


class Jpeg2000(Format):
    """JPEG 2000 with a georeference, as bands of Sentinel-2 are published."""

    suffixes = (".jp2",)
    kind = "scene"
    unwritten = "compressing labels so may change them"

    def open(self, path: Path, options: OpenOptions) -> Source:
        """Read the header of a file."""
        from medseg.formats import geotiff

        return geotiff.open(path, alpha=options.alpha)

    def companions(self, path: Path) -> list[Path]:
        """What GDAL keeps next to a raster."""
        return GeoTiff().companions(path)
