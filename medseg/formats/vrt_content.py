"""What a VRT file may hold: bands that are put together from raster files next to it, and nothing that is executed.

A VRT is a text that has GDAL open whatever it names: other drivers, services in the network, and functions in Python.
So its elements and attributes have to be among those below (GDAL takes the one for the other, in upper or lower case),
and each source has to be a raster file in its folder or below it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

from medseg.errors import InputError

_MOST_BYTES = 64 << 20
_RASTERS = {
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "BigTIFF", b"MM\0+": "BigTIFF", b"\0\0\0\x0cjP  ": "JPEG 2000",
}  # fmt: skip
"""First bytes of the files that may be sources: GDAL opens a file by its content, whatever its name."""
_SOURCES = ("SimpleSource", "ComplexSource", "AveragedSource")
_ELEMENTS = (
    "VRTDataset", "SRS", "GeoTransform", "GCPList", "GCP", "Metadata", "MDI", "VRTRasterBand", "MaskBand",
    "Description", "UnitType", "Offset", "Scale", "NoDataValue", "HideNoDataValue", "ColorInterp", "ColorTable",
    "Entry", "CategoryNames", "Category", "Histograms", "HistItem", "HistMin", "HistMax", "BucketCount",
    "IncludeOutOfRange", "Approximate", "HistCounts", "OverviewList", "BlockXSize", "BlockYSize", *_SOURCES,
    "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "ScaleOffset", "ScaleRatio",
    "LUT", "Exponent", "SrcMin", "SrcMax", "DstMin", "DstMax", "ColorTableComponent", "UseMaskBand", "Clamp",
)  # fmt: skip
_ATTRIBUTES = (
    "rasterXSize", "rasterYSize", "RasterXSize", "RasterYSize", "dataAxisToSRSAxisMapping", "coordinateEpoch",
    "dataType", "DataType", "band", "blockXSize", "blockYSize", "BlockXSize", "BlockYSize", "resampling",
    "relativeToVRT", "shared", "xOff", "yOff", "xSize", "ySize", "domain", "key", "c1", "c2", "c3", "c4",
    "Projection", "Id", "Info", "Pixel", "Line", "X", "Y", "Z",
)  # fmt: skip
"""What ``gdalbuildvrt`` and ``gdal_translate -of VRT`` write; all else is refused by its name."""

_CRS = re.compile(r"\s*(EPSG:\d+\s*|[A-Z_]+\[.*)?$", re.DOTALL)
"""A CRS by its text; GDAL would fetch one that is an address."""


def check_vrt(path: Path) -> None:
    """Raise on a VRT that holds anything but bands of raster files in its folder or below it.

    Raises:
        InputError: Damaged XML, another element, a band that is computed, or a source that is elsewhere, missing, or no
            GeoTIFF and no JPEG 2000.
    """
    root = _parsed(path)
    for element in root.iter():
        strange = [] if element.tag in _ELEMENTS else [f"<{element.tag}>"]
        strange += [f'{name}="{value}"' for name, value in element.items() if name not in _ATTRIBUTES]
        crs = (element.text or "") if element.tag == "SRS" else element.get("Projection", "")
        strange += [] if _CRS.match(crs) else [crs]
        if strange:
            raise InputError(
                f"{path}: holds {strange[0][:80]!r}, expected bands of raster files and nothing that is computed; "
                "write it as a GeoTIFF (gdal_translate)"
            )
    for source in _sources(path, root):
        _check_source(path, source)


def source_files(path: Path) -> list[Path]:
    """The files that a VRT is read from, each once; empty for one that can't be read, which opening reports."""
    try:
        return list(dict.fromkeys(_sources(path, _parsed(path))))
    except InputError:
        return []


def _parsed(path: Path) -> ElementTree.Element:
    """The root of the XML of a VRT, without entities of its own."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MiB")
        text = path.read_bytes().decode()
        if "\0" in text or "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
            raise ValueError("it declares a document type or entities")
        root = ElementTree.fromstring(text)
        if root.tag != "VRTDataset":
            raise ValueError(f"it starts with <{root.tag[:60]}>")
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: is no readable VRT ({error}); write it again (gdalbuildvrt)") from error
    return root


def _sources(path: Path, root: ElementTree.Element) -> list[Path]:
    """Paths of the sources; those that are not in the folder of the VRT or below it are refused.

    Raises:
        InputError: A source elsewhere, such as an address or a path with ``..``.
    """
    folder = path.absolute().parent
    files = []
    for element in root.iter("SourceFilename"):
        name = (element.text or "").strip()
        place = Path(os.path.normpath(folder / name))
        located = element.get("relativeToVRT") == "1" or os.path.isabs(name)
        if not (located and name and place.is_relative_to(folder)) or ":" in name:  # a colon ends names of drivers
            raise InputError(
                f"{path}: names {name[:100]!r}, expected files in its folder or below it, by relative paths; move it "
                "there and write it again (gdalbuildvrt)"
            )
        files.append(place)
    return files


def _check_source(path: Path, source: Path) -> None:
    """Raise on a source that is missing, or of another kind than its VRT may name."""
    if not source.is_file():
        raise InputError(f"{path}: names {source}, which is no file; copy it there, or write the VRT again")
    with source.open("rb") as file:
        head = file.read(8)
    if not any(head.startswith(mark) for mark in _RASTERS):
        kinds = " or ".join(dict.fromkeys(_RASTERS.values()))
        raise InputError(f"{path}: names {source}, which is no {kinds} file; convert it (gdal_translate)")
