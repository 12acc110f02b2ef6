"""Headers: facts of the files of a case before a cell is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg import formats
from medseg.data.case import Case
from medseg.errors import InputError
from medseg.formats.source import Source
from medseg.geometry.grid import Grid

Role = Literal["image", "label", "valid"]


@dataclass(frozen=True)
class Forms:
    """The two geometries that a NIfTI header holds, and its voxel sizes.

    Attributes:
        sform_code: 0 if there is no sform.
        qform_code: 0 if there is no qform.
        offset: Largest distance between the corners of the image by sform and by qform, in voxels; 0 if one is missing.
        zooms: Voxel sizes of the header (``pixdim``).
    """

    sform_code: int
    qform_code: int
    offset: float
    zooms: tuple[float, ...]


@dataclass(frozen=True)
class Header:
    """One file of a case.

    Attributes:
        path: The file.
        role: What it is in its case.
        source: The opened file; None if it can't be opened, or holds shapes.
        error: Why it can't be opened; empty if it can.
        forms: The transforms of a NIfTI file.
    """

    path: Path
    role: Role
    source: Source | None
    error: str = ""
    forms: Forms | None = None

    @property
    def grid(self) -> Grid | None:
        """Geometry of the file, None if it can't be opened."""
        return None if self.source is None else self.source.grid


def headers_of(case: Case, n_bands: int) -> tuple[Header, ...]:
    """Headers of the image files of a case, then of its label and its validity mask.

    Args:
        case: The case.
        n_bands: Bands that its files should hold; GDAL takes the last of four bands of bytes for alpha, unless the
            file is opened with ``alpha=False``.
    """
    images = [_header(path, "image") for path in case.images]
    if sum(h.source.n_channels for h in images if h.source is not None) == n_bands - 1:
        images = [_header(path, "image", alpha=False) for path in case.images]
    others: list[tuple[Path | None, Role]] = [(case.label, "label"), (case.valid, "valid")]
    return (*images, *(_header(path, role) for path, role in others if path is not None))


def _header(path: Path, role: Role, *, alpha: bool = True) -> Header:
    if role == "label" and formats.suffix(path) in formats.VECTORS:
        return Header(path, role, None, "" if path.is_file() else f"{path}: no such file; check the path")
    try:
        source = formats.open(path, alpha=alpha)
        forms = _forms(path, source.grid) if formats.suffix(path) in (".nii", ".nii.gz") else None
    except (InputError, OSError, ValueError) as error:
        return Header(path, role, None, " ".join(str(error).split()))
    return Header(path, role, source, forms=forms)


def _forms(path: Path, grid: Grid) -> Forms:
    import nibabel as nib

    header: Any = nib.load(path, mmap=False).header
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    offset = 0.0
    if sform is not None and qform is not None:
        offset = _between(grid.shape, sform, qform)
    return Forms(int(s_code), int(q_code), offset, tuple(float(z) for z in header.get_zooms()[:3]))


def _between(shape: Sequence[int], one: object, other: object) -> float:
    try:
        return Grid(tuple(shape), np.array(one)).offset_from(Grid(tuple(shape), np.array(other)))
    except InputError:  # one of them is singular
        return float("inf")
