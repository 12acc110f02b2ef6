"""A DICOM series of one slice a file, or an enhanced file of many frames, read through pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from jaxtyping import Shaped
from pydicom.pixels import pixel_array

from medseg.errors import InputError
from medseg.formats.dicom_frames import frames_of, is_enhanced
from medseg.formats.dicom_headers import DAMAGE, NEEDED, choose, number, numbers, read_header, read_headers
from medseg.formats.source import LPS_TO_RAS, Source, damage_told, file_grid, read_dtype
from medseg.geometry.box import Box

STEP_TOLERANCE = 0.05
"""Largest distance of a slice from where equal steps would put it, in steps. Positions rounded to
0.1 mm pass for steps of 1 mm and more; a missing slice is off by half a step at least."""

_ALIKE = {  # tag: tolerance between slices
    "Rows": 0.0, "Columns": 0.0, "BitsAllocated": 0.0, "PixelRepresentation": 0.0,
    "PixelSpacing": 1e-4, "ImageOrientationPatient": 1e-4,
}  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One slice of a series.

    Attributes:
        path: The file.
        frame: Number of the frame of an enhanced file, from 0; None for a file of one slice.
        shape: Columns and rows.
        spacing: Distance of columns and of rows in mm.
        position: Centre of the first cell in LPS.
        orientation: ``[2, 3]``: direction along rows of pixels, and down the columns.
        stored: Type of the stored values.
        slope: Factor of stored values.
        intercept: Offset added to the product.
        thickness: Distance to the next slice by the header, in mm; 0 without one.
    """

    path: Path
    frame: int | None
    shape: tuple[int, int]
    spacing: tuple[float, float]
    position: tuple[float, ...]
    orientation: npt.NDArray[np.float64]
    stored: np.dtype
    slope: float
    intercept: float
    thickness: float

    @classmethod
    def from_header(cls, header: Any, frame: int | None) -> Slice:
        """The slice of a file's header, with every tag decoded here: pydicom decodes a tag at its first access.

        Raises:
            InputError: A tag that cannot be decoded, or has other values than one slice has.
        """
        with damage_told(Path(header.filename), *DAMAGE):
            down, along = numbers(header, "PixelSpacing", 2)
            bits = int(header.BitsAllocated)
            if bits not in (8, 16, 32):
                raise ValueError(f"BitsAllocated is {bits}, expected 8, 16 or 32")
            return cls(
                path=Path(header.filename),
                frame=frame,
                shape=(int(header.Columns), int(header.Rows)),
                spacing=(along, down),
                position=numbers(header, "ImagePositionPatient", 3),
                orientation=np.array(numbers(header, "ImageOrientationPatient", 6)).reshape(2, 3),
                stored=np.dtype(f"{'i' if header.PixelRepresentation else 'u'}{bits // 8}"),
                slope=number(header, "RescaleSlope", 1.0),
                intercept=number(header, "RescaleIntercept", 0.0),
                thickness=number(header, "SpacingBetweenSlices", 0.0) or number(header, "SliceThickness", 0.0),
            )

    def read(self) -> Shaped[np.ndarray, "..."]:
        """Stored values ``[columns, rows]``."""
        with damage_told(self.path, *DAMAGE):
            if self.frame is None:
                cells = pydicom.dcmread(self.path).pixel_array.T
            else:
                cells = pixel_array(self.path, index=self.frame).T
            if cells.shape != self.shape:
                raise ValueError(f"its cells have the shape {cells.shape}, its header says {self.shape}")
        return cells


class DicomSource(Source):
    """A DICOM series: axis 0 along rows of pixels, 1 down the columns, 2 up the slice normal.

    Slices are ordered by their position, never by file name or instance number. The affine is that of
    the positions, so oblique series stay oblique and the shear of a tilted gantry is kept. A box reads
    its slices only.
    """

    def __init__(self, folder: Path, headers: Sequence[Any]) -> None:
        slices = _slices(headers)
        first = slices[0]
        along, down = first.orientation
        places = np.array([piece.position for piece in slices])
        order = np.argsort(places @ np.cross(along, down), kind="stable")
        slices, places = [slices[i] for i in order], places[order]
        affine = np.eye(4)
        affine[:3, 0] = along * first.spacing[0]
        affine[:3, 1] = down * first.spacing[1]
        affine[:3, 2] = _step(folder, slices, places, np.cross(along, down))
        affine[:3, 3] = places[0]
        self.path = folder
        self.grid = file_grid(folder, (*first.shape, len(slices)), LPS_TO_RAS @ affine)
        self.n_channels = 1
        self.dtype = read_dtype(folder, first.stored, scaled=any((s.slope, s.intercept) != (1, 0) for s in slices))
        self._slices = slices

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of each slice, in the order of axis 2; of an enhanced file that one alone."""
        return tuple(dict.fromkeys(piece.path for piece in self._slices))

    @property
    def frames(self) -> tuple[int, ...]:
        """Number of the frame of each slice in an enhanced file, in the order of axis 2; else empty."""
        return tuple(piece.frame for piece in self._slices if piece.frame is not None)

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        cells = np.empty((1, *box.shape), dtype=self.dtype)
        within = box.slices[:2]
        for k, piece in enumerate(self._slices[box.slices[2]]):
            values = piece.read()[within]
            if self.dtype == np.float32:
                values = values * piece.slope + piece.intercept
            cells[0, :, :, k] = values
        return cells[list(channels)]


def open(folder: Path, *, series: str | None = None) -> DicomSource:
    """Open the series of a folder; ``series`` is its SeriesInstanceUID if there are several."""
    return DicomSource(folder, choose(folder, read_headers(folder), series))


def open_files(files: Sequence[Path]) -> DicomSource:
    """Open the series of these files, which may lie in several folders."""
    return DicomSource(files[0].parent, [_slice_header(path) for path in files])


def open_channels(paths: Sequence[Path], *, series: str | None = None) -> list[DicomSource]:
    """The series of each channel of a case: that of each folder, or one of all files; see ``open``."""
    if all(path.is_dir() for path in paths):
        return [open(path, series=series) for path in paths]
    return [open_files(paths)]


def _slice_header(path: Path) -> Any:
    header = read_header(path)
    if header is None:
        raise InputError(f"{path}: is no DICOM image, expected a slice; remove it from the series")
    return header


def _slices(headers: Sequence[Any]) -> list[Slice]:
    """The slice of each file, checked: one slice of real numbers each, of the same size, type and orientation."""
    numbered: list[tuple[Any, int | None]] = []
    for header in headers:
        with damage_told(Path(header.filename), *DAMAGE):
            parts = (
                [(frame, k) for k, frame in enumerate(frames_of(header))] if is_enhanced(header) else [(header, None)]
            )
            for part, _ in parts:
                _check_kind(part)
            numbered += parts
    first = numbered[0][0]
    slices = [Slice.from_header(header, frame) for header, frame in numbered]
    for header, _ in numbered:
        for tag, tolerance in _ALIKE.items():
            one, other = (np.array(h[tag].value, dtype=np.float64) for h in (first, header))
            if not np.allclose(one, other, rtol=0, atol=tolerance):
                raise InputError(
                    f"{header.filename}: {tag} is {other.tolist()}, but {one.tolist()} in {first.filename}; "
                    "keep the files of one volume in a folder"
                )
    return slices


def _check_kind(header: Any) -> None:
    """Raise on a file that is not one slice of real numbers."""
    path = header.filename
    missing = [tag for tag in NEEDED if header.get(tag) in (None, "")]
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{path}: holds many frames, one slice a file was expected; convert to .nii.gz (dcm2niix)")
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}, so it is no complete slice; remove it or copy it again")
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{path}: holds colours, real numbers were expected; remove it or choose another series")
    if "ModalityLUTSequence" in header:
        raise InputError(f"{path}: values go through a table (ModalityLUTSequence); convert the series to .nii.gz")


def _step(
    folder: Path, slices: Sequence[Slice], places: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Vector from each slice to the next, in LPS millimetres; slices are in order.

    Raises:
        InputError: Two slices in one place, a missing slice, or unequal steps.
    """
    names = [piece.path.name for piece in slices]
    if len(slices) == 1:
        if not slices[0].thickness:
            raise InputError(f"{folder}: one slice without SliceThickness has no voxel size; convert it to .nii.gz")
        return normal * slices[0].thickness
    gaps = np.diff(places @ normal)
    closest = int(gaps.argmin())
    if gaps[closest] < 1e-3:
        raise InputError(
            f"{folder}: {names[closest]} and {names[closest + 1]} lie in the same place; "
            "keep one time point or echo in a folder"
        )
    step = (places[-1] - places[0]) / (len(places) - 1)
    off = np.linalg.norm(places - (places[0] + np.arange(len(places))[:, None] * step), axis=1)
    if off.max() <= STEP_TOLERANCE * np.linalg.norm(step):
        return step
    typical, widest = float(np.median(gaps)), int(gaps.argmax())
    if gaps[widest] > 1.5 * typical:
        raise InputError(
            f"{folder}: slices are missing between {names[widest]} and {names[widest + 1]}, {gaps[widest]:.4g} mm "
            f"apart where {typical:.4g} mm is usual; copy the series again"
        )
    raise InputError(
        f"{folder}: slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart, equal steps were expected; "
        "resample the series to a regular .nii.gz"
    )
