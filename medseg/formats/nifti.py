"""NIfTI-1 and NIfTI-2 (``.nii``, ``.nii.gz``), through nibabel."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import data_type_codes
from nibabel.spatialimages import HeaderDataError

from medseg.errors import InputError
from medseg.formats.sizes import check_size
from medseg.formats.source import Source, damage_told, file_grid, read_dtype
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid

_DAMAGE = (
    ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError, MemoryError,
)  # fmt: skip
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # codes of metre and micron in xyzt_units; others are taken as mm
_GEOMETRY = (
    "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
_MOST_EXTENSION = 64 << 20  # bytes between header and cells, such as a copy of a DICOM header
_FORMS_ALIKE = 0.1  # voxels that sform and qform may differ by: the qform's quaternion is rounded
_SCANNER = 1  # form code: scanner anatomical coordinates


class NiftiSource(Source):
    """A NIfTI file. The affine is the sform if it is coded, else the qform, else nibabel's default.

    The last axis of a 4D file is its channels (also the fifth, if the fourth is one cell). A 2D file
    is a volume of one slice. Of an uncompressed file only the bytes of a box are read; a compressed
    one is decoded up to the last byte of the box.
    """

    def __init__(self, path: Path) -> None:
        with damage_told(path, *_DAMAGE, struct.error):
            kind = _checked_kind(path)
            image: Any = kind.from_filename(path, mmap=False)  # a memory map would keep the file open
            affine = np.array(image.affine, dtype=np.float64)
        shape = image.dataobj.shape
        if len(shape) < 2 or sum(n != 1 for n in shape[3:]) > 1:
            raise InputError(f"{path}: got shape {shape}, expected 2 or 3 axes and at most one of channels")
        affine[:3] *= _MM_PER_UNIT.get(int(image.header["xyzt_units"]) & 7, 1.0)
        proxy = image.dataobj
        self.path = path
        self.grid = file_grid(path, (*shape, 1)[:3], affine)
        self.n_channels = math.prod(shape[3:])
        self.dtype = read_dtype(path, proxy.dtype, scaled=(proxy.slope, proxy.inter) != (1, 0))
        self.warnings = _header_warnings(image.header, self.grid.shape)
        self._proxy = proxy

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        with damage_told(self.path, *_DAMAGE):
            cells = np.asarray(self._proxy[box.slices[: self._proxy.ndim]])
        cells = np.moveaxis(cells.reshape(*box.shape, self.n_channels), -1, 0)
        return cells if channels == tuple(range(self.n_channels)) else cells[list(channels)]  # a list makes a copy


def _header_warnings(header: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """What the header leaves open about the orientation."""
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        return ("the NIfTI header has no orientation (sform and qform code 0), so left and right are a guess",)
    if sform is None or qform is None or not np.linalg.det(qform[:3, :3]):
        return ()
    ends = np.array(list(product(*[(0, max(n - 1, 1)) for n in shape], (1,))), dtype=np.float64)
    moved = np.linalg.norm((ends @ (sform - qform).T)[:, :3], axis=1).max()
    if moved <= _FORMS_ALIKE * np.linalg.norm(sform[:3, :3], axis=0).min():
        return ()
    return ("sform and qform of the NIfTI header disagree (the sform counts; other software may take the qform)",)


def open(path: Path) -> NiftiSource:
    """Open a NIfTI file."""
    return NiftiSource(path)


def write(path: Path, array: Shaped[np.ndarray, " *s"], grid: Grid, *, like: Path | None) -> None:
    """Write a NIfTI file; bytes depend on array, grid and ``like`` only.

    Without ``like`` the sform is set, and the qform too if it can hold the affine (orthogonal axes).
    With it, geometry is copied bit for bit, in its version of the format and its number of axes.

    Raises:
        ValueError: ``like`` has another grid.
    """
    kind: Any = nib.Nifti1Image
    if like is not None:
        kind = _checked_kind(like)
        if len(nib.load(like).shape) == 2:
            array = array[..., 0]
    header = kind.header_class()
    header.set_data_shape(array.shape)
    if like is None:
        _set_forms(header, grid)
    else:
        _copy_forms(header, grid, like)
    # without an affine of its own the image leaves the header's forms alone
    kind(array, None, header, dtype=array.dtype).to_filename(path)


def write_bands(
    path: Path,
    bands: Iterable[Shaped[np.ndarray, " *s"]],
    count: int,
    grid: Grid,
    *,
    names: Sequence[str],
    scale: float,
) -> None:
    """Write several bands of one grid as a NIfTI file of four axes, one band in memory at a time.

    Args:
        path: A ``.nii.gz`` file.
        bands: Integers of one type.
        count: Number of bands.
        grid: Three axes in millimetres.
        names: Of the bands, which the header's ``descrip`` lists as far as its 80 bytes go.
        scale: What a reader multiplies stored values by.
    """
    header = nib.Nifti1Header()
    with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as file:
        for number, band in enumerate(bands):
            if number == 0:
                header.set_data_dtype(band.dtype)
                header.set_data_shape(grid.shape)
                _set_forms(header, grid)
                header.set_data_shape((*grid.shape, count))
                header.set_slope_inter(scale, 0)
                header["descrip"] = ", ".join(names).encode()[:79]
                header["vox_offset"] = header.sizeof_hdr + 4
                file.write(header.binaryblock + bytes(4))
            file.write(band.tobytes(order="F"))


def _set_forms(header: Any, grid: Grid) -> None:
    header.set_xyzt_units("mm")
    header.set_sform(grid.affine, code=_SCANNER)
    header.set_zooms(grid.spacing)
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-5):
        header.set_qform(grid.affine, code=_SCANNER)


def _copy_forms(header: Any, grid: Grid, like: Path) -> None:
    offset = NiftiSource(like).grid.offset_from(grid)
    if offset > 1e-3:
        raise ValueError(f"{like} lies {offset:.3g} cells from the grid to be written, so its header would be false")
    model: Any = _checked_kind(like).from_filename(like).header
    for field in _GEOMETRY:
        header[field] = model[field]
    header["pixdim"][:4] = model["pixdim"][:4]


def _checked_kind(path: Path) -> Any:
    """The class of nibabel for the version of a file, whose header must promise no more than the file can hold.

    nibabel would read extensions and cells of any promised size, and a file by its content, also as CIFTI.

    Raises:
        ValueError: No NIfTI header, or one that the file cannot keep.
        struct.error: The file is shorter than a header.
        InputError: A decompression bomb.
    """
    compressed = path.name.lower().endswith(".gz")
    with gzip.open(path) if compressed else path.open("rb") as file:
        head = file.read(540)
    kind, axes, shape, code, offset = _head_fields(head)
    if not 1 <= axes <= 7 or min(shape) < 1:
        raise ValueError(f"its shape is {shape}, expected at least one cell on each axis")
    if not 0 <= offset <= _MOST_EXTENSION:
        raise ValueError(f"its cells begin at byte {offset}, expected at most {_MOST_EXTENSION}")
    if code not in data_type_codes.value_set("code"):
        raise ValueError(f"its data type has the code {code}, which NIfTI does not define")
    promised = math.prod(shape) * data_type_codes.dtype[code].itemsize
    check_size(path, promised, path.stat().st_size - (0 if compressed else int(offset)), compressed=compressed)
    return kind


def _head_fields(head: bytes) -> tuple[object, int, list[int], int, float]:
    """Class of nibabel, number of axes, shape, code of the data type and first byte of the cells, by a header.

    Raises:
        ValueError: No NIfTI header.
        struct.error: Fewer than four bytes.
    """
    sizes = {order: struct.unpack_from(f"{order}i", head)[0] for order in "<>"}
    order = next((order for order, size in sizes.items() if size in (348, 540)), None)
    if order is None or len(head) < sizes[order]:
        raise ValueError("it does not start as a NIfTI header does")
    if sizes[order] == 348:
        kind, axes, *shape = nib.Nifti1Image, *struct.unpack_from(f"{order}8h", head, 40)
        (code,), (offset,) = struct.unpack_from(f"{order}h", head, 70), struct.unpack_from(f"{order}f", head, 108)
    else:
        kind, axes, *shape = nib.Nifti2Image, *struct.unpack_from(f"{order}8q", head, 16)
        (code,), (offset,) = struct.unpack_from(f"{order}h", head, 12), struct.unpack_from(f"{order}q", head, 168)
    return kind, axes, shape[: max(axes, 0)], code, offset
