"""Companions: further files that belong to an image or a vector file, and are read with it."""

from __future__ import annotations

from pathlib import Path

from medseg.formats.registry import find_format

_OF_SHAPEFILE = (".dbf", ".shx", ".prj", ".cpg", ".qix")


def companions(path: Path) -> list[Path]:
    """The files that are read together with ``path``, without it; those that exist, in a fixed order.

    They are what ``Format.companions`` lists, such as the data files of a ``.mhd`` header or what GDAL keeps next to
    a raster, and the tables of a Shapefile.

    Example:
        >>> companions(Path("case.nii.gz"))
        []
    """
    if path.suffix.lower() == ".shp":
        return [file for ending in _OF_SHAPEFILE if (file := path.with_suffix(ending)).is_file()]
    form = find_format(path)
    return form.companions(path) if form else []
