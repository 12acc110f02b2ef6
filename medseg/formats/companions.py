"""Companions: further files that belong to an image or a vector file, and are read with it."""

from __future__ import annotations

from pathlib import Path

from medseg.formats.itk_header import HeaderError, read_header

_BESIDE_RASTER = (".aux.xml", ".msk", ".ovr")
"""Added to the name of a raster: statistics and nodata, a mask, overviews."""
_OF_SHAPEFILE = (".dbf", ".shx", ".prj", ".cpg", ".qix")


def companions(path: Path) -> list[Path]:
    """The files that are read together with ``path``, without it; those that exist, in a fixed order.

    They are the data files of a ``.mhd`` or ``.nhdr`` header, the tables of a Shapefile, and what
    GDAL keeps next to a raster. A header that cannot be read has none: opening it says what is wrong.

    Example:
        >>> companions(Path("case.nii.gz"))
        []
    """
    suffix = path.suffix.lower()
    if suffix in (".mhd", ".nhdr", ".mha", ".nrrd"):
        try:
            return list(read_header(path).data_files)
        except (HeaderError, OSError):
            return []
    if suffix == ".shp":
        named = [path.with_suffix(ending) for ending in _OF_SHAPEFILE]
    elif suffix in (".tif", ".tiff"):
        named = [path.with_name(path.name + ending) for ending in _BESIDE_RASTER]
    else:
        return []
    return [file for file in named if file.is_file()]
