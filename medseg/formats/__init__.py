"""Image files: ``open`` gives a ``Source`` that reads windows, ``write`` puts an array on a grid.

Importing this package is cheap: the library of a format is imported when the first file of its kind is opened.
A folder is a DICOM series.
"""

from medseg.formats.format import Format, OpenOptions, WriteOptions
from medseg.formats.read_write import check_regular, open, write, write_image
from medseg.formats.registry import DICOM, GEOTIFF, VECTORS, find_format, is_dicom, label_suffix, stem, suffix, suffixes
from medseg.formats.source import Source

__all__ = [
    "DICOM",
    "GEOTIFF",
    "VECTORS",
    "Format",
    "OpenOptions",
    "Source",
    "WriteOptions",
    "check_regular",
    "find_format",
    "is_dicom",
    "label_suffix",
    "open",
    "stem",
    "suffix",
    "suffixes",
    "write",
    "write_image",
]
