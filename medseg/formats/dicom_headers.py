"""Headers of DICOM files: the tags that are used, each decoded, and which series they belong to."""

from __future__ import annotations

import math
import struct
import zlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from medseg.errors import InputError
from medseg.formats.registry import DICOM
from medseg.formats.source import damage_told

DAMAGE = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, RuntimeError, AttributeError, LookupError,
    TypeError, ArithmeticError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
_MOST_DEFLATED = 4 << 20  # bytes of a file that pydicom inflates at once, up to 1032 times
_SHOWN = 3  # folders that a message names
NEEDED = (
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "BitsAllocated", "PixelRepresentation",
)  # fmt: skip
_OTHER = (
    "SeriesInstanceUID", "SeriesDescription", "NumberOfFrames", "SamplesPerPixel", "ModalityLUTSequence",
    "RescaleSlope", "RescaleIntercept", "SliceThickness", "SpacingBetweenSlices", "Modality", "ImageType", "PatientID",
    "StudyDate", "SeriesNumber", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_NO_IMAGES = ("SEG", "RTDOSE")
"""Modalities of objects with pixels that are no images."""


def number(header: Any, tag: str, default: float) -> float:
    """Value of a tag; the default where it is absent or empty."""
    value = header.get(tag)
    if value is None or value == "":
        return default
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{tag} is {number}, expected a number")
    return number


def numbers(header: Any, tag: str, n: int) -> tuple[float, ...]:
    """The n finite numbers of a tag."""
    content = header[tag].value
    values = tuple(map(float, content if isinstance(content, MultiValue) else [content]))
    if len(values) != n or not all(map(math.isfinite, values)):
        raise ValueError(f"{tag} is {values}, expected {n} numbers")
    return values


def read_headers(folder: Path) -> list[Any]:
    """Header of each DICOM file in the folder; files without DICOM's mark pass unless named ``.dcm``."""
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return [header for path in paths if (header := read_header(path)) is not None]


def read_header(path: Path) -> Any | None:
    """Header of a DICOM file; None for a DICOMDIR, and for files without DICOM's mark unless named ``.dcm``.

    Raises:
        InputError: The file can't be read, or belongs to no series.
    """
    try:
        with damage_told(path, *DAMAGE):
            header = _header(path)
    except InputError:
        if path.suffix.lower() == DICOM:
            raise
        return None
    if header is not None and "SeriesInstanceUID" not in header:
        raise InputError(f"{path}: lacks SeriesInstanceUID, so it is no complete slice; remove it or copy it again")
    return header


def is_image(header: Any) -> bool:
    """Whether a file has pixels of its own; reports, annotations, segmentations and doses have none."""
    return "Rows" in header and header.get("Modality") not in _NO_IMAGES


def _deeper(folder: Path) -> str:
    """A hint with the folders of series below a folder, as in the export of an archive (patient, study, series)."""
    folders = list(islice(filter(_has_series, sorted(folder.rglob("*"))), _SHOWN + 1))
    if not folders:
        return "name the folder of a series"
    names = ", ".join(map(str, folders[:_SHOWN])) + (", ..." if len(folders) > _SHOWN else "")
    return f"series lie in {names}; name one of these, or the folder directly above them"


def _has_series(folder: Path) -> bool:
    """Whether the first DICOM file of a folder is one of a series."""
    if not folder.is_dir():
        return False
    first = next((p for p in sorted(folder.iterdir()) if p.is_file() and is_dicom(p)), None)
    return first is not None and first.name.upper() != "DICOMDIR"


def _header(path: Path) -> Any | None:
    """The tags that are used, each decoded; None for a DICOMDIR."""
    if path.stat().st_size > _MOST_DEFLATED:
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == DeflatedExplicitVRLittleEndian:
            raise ValueError(f"it is deflated and larger than {_MOST_DEFLATED} bytes; store it uncompressed")
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*NEEDED, *_OTHER])
    if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return None
    for element in header:  # pydicom decodes a tag at its first access
        str(element.value)
    return header


def _image_series(headers: Sequence[Any]) -> dict[str, list[Any]]:
    """Headers of each series of images."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for header in headers:
        groups[str(header.SeriesInstanceUID)].append(header)
    return {uid: group for uid, group in groups.items() if any(map(is_image, group))}


def choose(folder: Path, headers: Sequence[Any], series: str | None) -> list[Any]:
    """Headers of the only image series, or of the one that is chosen."""
    groups = _image_series(headers)
    if not groups:
        raise InputError(f"{folder}: no DICOM image in this folder (subfolders are not searched); {_deeper(folder)}")
    if series is None and len(groups) == 1:
        return next(iter(groups.values()))
    if series in groups:
        return groups[series]
    listing = "; ".join(f"{u} ({len(g)} files, {g[0].get('SeriesDescription', '')!s})" for u, g in groups.items())
    problem = f"{len(groups)} series, one was expected" if series is None else f"no series {series}"
    raise InputError(
        f"{folder}: holds {problem}; move each series into a folder of its own, or choose one in medseg-predict with "
        f"data.series=UID among {listing}"
    )
