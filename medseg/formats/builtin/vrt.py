"""GDAL's virtual rasters."""

from __future__ import annotations

from pathlib import Path

from medseg.formats.format import Format, OpenOptions
from medseg.formats.source import Source


class Vrt(Format):
    """Bands or tiles of GeoTIFF and JPEG 2000 files as one scene, as ``gdalbuildvrt`` writes them."""

    suffixes = (".vrt",)
    kind = "scene"
    unwritten = "its cells are in other files"

    def open(self, path: Path, options: OpenOptions) -> Source:
        """Check what it names, and read the header."""
        from medseg.formats import geotiff, vrt_content

        vrt_content.check_vrt(path)
        return geotiff.open(path, alpha=options.alpha)

    def companions(self, path: Path) -> list[Path]:
        """The files that it names."""
        from medseg.formats import vrt_content

        return [file for file in vrt_content.source_files(path) if file.is_file()]
