"""The frames of an enhanced DICOM file, each as the header of a file of one slice."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

_OF_FILE = ("Rows", "Columns", "BitsAllocated", "PixelRepresentation", "SamplesPerPixel", "SeriesInstanceUID")
_OF_FRAME = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}
"""Tags in each sequence of the functional groups, which are of a frame or shared by all."""


def is_enhanced(header: Any) -> bool:
    """Whether a file says of each of its frames where it lies, as enhanced CT, MR and PET do."""
    return bool(header.get("PerFrameFunctionalGroupsSequence"))


def frames_of(header: Any) -> list[Any]:
    """A header for each frame, in the order of the file.

    Args:
        header: Of a file for which ``is_enhanced`` holds.
    """
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [_frame(header, shared[0], group) for group in header.PerFrameFunctionalGroupsSequence]


def _frame(header: Any, shared: Any, own: Any) -> Any:
    frame: Any = Dataset()
    frame.filename = header.filename
    _copy(header, frame, _OF_FILE)
    for name, tags in _OF_FRAME.items():
        for group in (shared, own):
            for part in group.get(name) or []:
                _copy(part, frame, tags)
    return frame


def _copy(source: Any, target: Any, tags: tuple[str, ...]) -> None:
    for tag in tags:
        if tag in source:
            target[tag] = source[tag]
