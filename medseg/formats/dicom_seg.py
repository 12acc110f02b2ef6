"""Labels as a DICOM segmentation object (SEG), which refers to the images that they belong to, through highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats import dicom
from medseg.formats.dicom_headers import DAMAGE
from medseg.formats.registry import DICOM
from medseg.formats.source import damage_told
from medseg.labels import LabelTable
from medseg.labels.codes import ClassCodes, Code
from medseg.runtime.atomic import atomic_file

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_SHARED = ("StudyInstanceUID", "FrameOfReferenceUID")
_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip
"""Tags that an object has to have, if only without a value; files without identity often lack them."""
_LONGEST_LABEL = 64  # characters
_LONGEST_DIGEST = 16  # characters of the checkpoint's digest in the name of the algorithm


@dataclass(frozen=True)
class Algorithm:
    """What made the labels.

    Attributes:
        checkpoint: Hexadecimal digest of the checkpoint.
        version: Version of medseg.
    """

    checkpoint: str
    version: str

    @property
    def name(self) -> str:
        """Name in the segments of an object."""
        return f"medseg {self.checkpoint[:_LONGEST_DIGEST]}"


@dataclass(frozen=True)
class References:
    """The images that an object refers to.

    Attributes:
        path: The series that the labels lie on.
        images: Headers of its slices, in the order of axis 2 of its grid.
        further: Headers of the slices of the other channels.
        frames: Of an enhanced file, which is then the only image, the number of the frame of each slice; else empty.
    """

    path: Path
    images: Sequence[Any]
    further: Sequence[Any]
    frames: Sequence[int] = ()


def check_installed() -> None:
    """Raise if highdicom, which an extra installs, is missing.

    Raises:
        InputError: Says what to install.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            "format=dicom_seg needs highdicom, not installed here; pip install 'medseg[dicom]', or leave format out"
        ) from error


def references(paths: Sequence[Path], *, series: str | None = None) -> References:
    """The slices of a case, whose headers an object can refer to.

    Args:
        paths: The folder of the series of each channel, of which labels lie on the grid of the first; or the files of
            one series.
        series: SeriesInstanceUID to take from folders that hold several.

    Raises:
        InputError: A slice lacks an identifier; or slices belong to several studies or frames of reference, which one
            object can't refer to.
    """
    sources = dicom.open_channels(paths, series=series)
    headers = [_headers(source) for source in sources]
    first = headers[0][0]
    for header in (header for series in headers for header in series):
        for tag in _SHARED:
            if header[tag].value != first[tag].value:
                raise InputError(
                    f"{header.filename}: {tag} is {header[tag].value}, but {first[tag].value} in {first.filename}; "
                    "format=dicom_seg refers to series of one study and one frame of reference: leave it out, and "
                    "convert the .nii.gz"
                )
    further = [header for series in headers[1:] for header in series]
    return References(sources[0].path, headers[0], further, sources[0].frames)


def write(
    path: Path, array: Shaped[np.ndarray, "x y z"], images: References, labels: LabelTable, algorithm: Algorithm
) -> None:
    """Write labels as a segment for each class but the background, or for each region; appears whole or not at all.

    Segments are bit masks (``BINARY``), not a map of labels (``LABELMAP``): viewers and archives read these, label
    maps are of 2024 and read by few; and regions overlap. A segment has the class's name as its label, its colour and
    its codes. Frames without any cell of a segment are left out, as DICOM allows; a reader takes them as empty.

    Args:
        path: Target, in an existing folder.
        array: Saved values on the grid of the first channel.
        images: The images that the labels belong to.
        labels: Meaning of the values.
        algorithm: What made the labels.

    Raises:
        InputError: The headers of the images have values that an object can't have.
    """
    import highdicom
    from highdicom.seg import Segmentation, SegmentationTypeValues

    number, cells = images.images[0].get("SeriesNumber"), _segments(array, labels)
    if images.frames:  # those of the object are in the order of the file
        cells = cells[np.argsort(images.frames)]
    try:
        content = Segmentation(
            source_images=list(images.images),
            pixel_array=cells,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(labels, algorithm),
            series_instance_uid=highdicom.UID(),
            series_number=1000 + int(number or 0),
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="medseg",
            manufacturer_model_name="medseg",
            software_versions=algorithm.version,
            device_serial_number=algorithm.checkpoint[:_LONGEST_LABEL],
            content_label="SEGMENTATION",
            series_description="medseg segmentation",
            omit_empty_frames=bool(cells.any()),  # an object has to have a frame
            further_source_images=list(images.further) or None,
        )
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{images.path}: its headers can't be copied into a DICOM segmentation ({reason}); fix them, or leave "
            "format=dicom_seg out"
        ) from error
    with atomic_file(path, suffix=DICOM) as draft:
        content.save_as(draft)


def _headers(source: dicom.DicomSource) -> list[Any]:
    """Headers of the slices in order, with the distance of slices where they lack a thickness."""
    headers = [_header(path) for path in source.files]
    for header in headers:
        if not header.get("SliceThickness"):
            header.SliceThickness = round(source.grid.spacing[2], 6)
    return headers


def _header(path: Path) -> Any:
    """All tags of a slice but its cells."""
    with damage_told(path, *DAMAGE):
        header = pydicom.dcmread(path, stop_before_pixels=True)
    missing = [tag for tag in _NEEDED if not header.get(tag)]
    if missing:
        raise InputError(
            f"{path}: lacks {', '.join(missing)}, to which a DICOM segmentation has to refer; leave format=dicom_seg "
            "out, or restore the tags"
        )
    for tag in _EMPTY:
        if tag not in header:
            setattr(header, tag, None)
    return header


def _segments(array: Shaped[np.ndarray, "x y z"], labels: LabelTable) -> Shaped[np.ndarray, "..."]:
    """Number of the segment of each cell, ``[z, y, x]``; where regions may overlap a mask of each, ``[z, y, x, n]``."""
    frames = array.transpose(2, 1, 0)
    saved = [[labels.classes[member].saved for member in members] for _, members in labels.targets]
    if labels.regions:
        return np.stack([np.isin(frames, values) for values in saved], axis=-1)
    numbers = np.zeros(frames.shape, dtype=np.min_scalar_type(len(saved)))
    for number, (value,) in enumerate(saved, start=1):
        numbers[frames == value] = number
    return numbers


def _descriptions(labels: LabelTable, algorithm: Algorithm) -> list[Any]:
    """What each segment is."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes as known

    made_by = AlgorithmIdentificationSequence(
        name=algorithm.name, version=algorithm.version, family=known.DCM.ArtificialIntelligence
    )
    by_name = dict(labels.codes)
    descriptions = []
    for number, (name, members) in enumerate(labels.targets, start=1):
        own = by_name.get(name, ClassCodes())
        one = SegmentDescription(
            segment_number=number,
            segment_label=name.replace("\\", "/")[:_LONGEST_LABEL],
            segmented_property_category=_concept(own.category),
            segmented_property_type=_concept(own.type),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=made_by,
            display_color=CIELabColor.from_rgb(*labels.classes[members[-1]].colour),
        )
        descriptions.append(one)
    return descriptions


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
