"""The image series of a tree of folders, as archives export it: patients, studies, series, and other objects."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.formats.dicom_frames import is_enhanced
from medseg.formats.dicom_headers import is_image, read_header

_LONGEST_PART = 48  # characters of each part of a name; files may have 255 bytes
_NAMED_BY = ("PatientID", "StudyDate", "SeriesNumber", "SeriesDescription")


@dataclass(frozen=True)
class Series:
    """The slices of one image series.

    Attributes:
        name: Readable, unique in its tree, and safe as the name of a file: PatientID, StudyDate, SeriesNumber and
            SeriesDescription as far as they are there, as in ``P7_20200131_4_T1-post``.
        uid: SeriesInstanceUID.
        files: Its files. Files with the suffix of DICOM that can't be read are among those of each series of their
            folder, so that opening these reports them.
        localiser: Whether it is a scout image for planning, of few slices that may cross each other.
    """

    name: str
    uid: str
    files: tuple[Path, ...]
    localiser: bool = False


@dataclass(frozen=True)
class Tree:
    """What a tree of folders holds.

    Attributes:
        series: Image series by name.
        others: Number of objects that are no image of a volume, by modality.
        damaged: Files in folders without any series that can't be read, with what is wrong.
    """

    series: tuple[Series, ...]
    others: Counter[str]
    damaged: tuple[tuple[Path, str], ...]


def find_series(folder: Path) -> Tree:
    """The image series in a folder and all folders below it; headers are read, cells are not.

    A series may be spread over folders, and a folder may hold several series. A file of many frames is a series of its
    own. Hidden files, DICOMDIR, and files without DICOM's mark (unless named ``.dcm``) are left out.
    """
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    others: Counter[str] = Counter()
    damaged: dict[Path, str] = {}
    for path in _files(folder):
        try:
            header = read_header(path)
        except InputError as error:
            damaged[path] = str(error)
            continue
        if header is not None and _is_of_volume(header):
            own = str(path) if is_enhanced(header) else ""
            groups[str(header.SeriesInstanceUID), own].append(header)
        elif header is not None:
            others[str(header.get("Modality") or "unknown")] += 1
    series = [_series(uid, own, headers, damaged) for (uid, own), headers in groups.items()]
    return Tree(_unique(series), others, _without_series(damaged, series))


def _without_series(damaged: dict[Path, str], series: Sequence[Series]) -> tuple[tuple[Path, str], ...]:
    """Damaged files that no series has among its own."""
    of_series = {path for one in series for path in one.files}
    return tuple((path, text) for path, text in damaged.items() if path not in of_series)


def _files(folder: Path) -> Iterator[Path]:
    """Files in a folder and below it, in the order of their names, without hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _is_of_volume(header: Any) -> bool:
    """Whether a file is an image that says where in the patient its cells lie, and each cell is one number."""
    if not is_image(header):
        return False
    return ("ImagePositionPatient" in header or is_enhanced(header)) and header.get("SamplesPerPixel", 1) in (1, None)


def _series(uid: str, own: str, headers: Sequence[Any], damaged: dict[Path, str]) -> Series:
    """A series of its headers; its name is not unique yet."""
    files = [Path(header.filename) for header in headers]
    folders = {path.parent for path in files}
    files += [] if own else [path for path in damaged if path.parent in folders]
    parts = [_safe(headers[0].get(tag)) for tag in _NAMED_BY]
    name = "_".join(filter(None, parts)) or "series"
    return Series(name, uid, tuple(files), localiser=any(map(_is_localiser, headers)))


def _is_localiser(header: Any) -> bool:
    return "LOCALIZER" in str(header.get("ImageType")).upper()


def _safe(value: object) -> str:
    """A value as text of letters, digits, dots, hyphens and underscores."""
    plain = unicodedata.normalize("NFKD", "" if value is None else str(value)).encode("ascii", "ignore").decode()
    return re.sub(r"[^\w.-]+", "-", plain)[:_LONGEST_PART].strip("-._")


def _unique(series: Sequence[Series]) -> tuple[Series, ...]:
    """Series in the order of their names, those of one name with digits of their UID's digest."""
    counts = Counter(one.name.lower() for one in series)
    named = []
    for one in series:
        if counts[one.name.lower()] > 1:
            several = sum(other.uid == one.uid for other in series) > 1  # files of many frames
            key = f"{one.uid}{one.files[0].name if several else ''}"
            one = replace(one, name=f"{one.name}_{hashlib.sha256(key.encode()).hexdigest()[:8]}")
        named.append(one)
    return tuple(sorted(named, key=lambda one: one.name))
