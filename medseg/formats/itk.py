"""NRRD (``.nrrd``, ``.nhdr``) and MetaImage (``.mha``, ``.mhd``), through SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats import isolated
from medseg.formats.itk_header import HeaderError, read_header
from medseg.formats.source import LPS_TO_RAS, Source, damage_told, file_grid, read_dtype
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid

_DTYPES = {
    getattr(sitk, f"sitk{vector}{name}"): np.dtype(name.lower())
    for vector in ("", "Vector")
    for name in ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float32", "Float64")
}


class ItkSource(Source):
    """A NRRD or MetaImage file of 2 or 3 axes; components of a vector are channels.

    SimpleITK gives arrays as [k, j, i] in a world of LPS; here they are [i, j, k] in RAS, as a NIfTI file
    of the same volume would be. A 2D file is a volume of one slice. Of an uncompressed MetaImage only
    the box is read; ITK decodes the other kinds whole.

    The header is checked before ITK sees it (``itk_header``): ITK's own parsers write beyond their memory
    for some. Headers that are not written in the usual way are read in a process of their own first.
    """

    def __init__(self, path: Path) -> None:
        with damage_told(path, HeaderError, OSError):
            header = read_header(path)
        if not header.ordinary:
            isolated.probe(path)
        reader = _reader(path)
        with damage_told(path, RuntimeError):
            reader.ReadImageInformation()
        size, axes = reader.GetSize(), reader.GetDimension()
        if axes not in (2, 3):
            raise InputError(f"{path}: got {axes} axes, expected 2 or 3 (channels as components of a vector)")
        if reader.GetPixelID() not in _DTYPES:
            kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
            raise InputError(f"{path}: holds cells of type {kind!r}, real numbers were expected; convert it")
        affine = np.eye(4)
        direction = np.array(reader.GetDirection()).reshape(axes, axes)
        affine[:axes, :axes] = direction * np.array(reader.GetSpacing())
        affine[:axes, 3] = reader.GetOrigin()
        self.path = path
        self.grid = file_grid(path, (*size, 1)[:3], LPS_TO_RAS @ affine)
        self.n_channels = reader.GetNumberOfComponents()
        self.dtype = read_dtype(path, _DTYPES[reader.GetPixelID()], scaled=False)
        self._axes = axes

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        reader = _reader(self.path)
        reader.SetExtractIndex(box.start[: self._axes])
        reader.SetExtractSize(box.shape[: self._axes])
        with damage_told(self.path, RuntimeError):
            cells = sitk.GetArrayFromImage(reader.Execute())
        return cells.reshape(*reversed(box.shape), self.n_channels).transpose(3, 2, 1, 0)[list(channels)]


def open(path: Path) -> ItkSource:
    """Open a NRRD or MetaImage file."""
    return ItkSource(path)


def write(path: Path, array: Shaped[np.ndarray, " *s"], grid: Grid) -> None:
    """Write a compressed NRRD or MetaImage file; all its geometry is the grid."""
    affine = LPS_TO_RAS @ grid.affine
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / np.array(grid.spacing)).ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")  # not by content
    reader.SetFileName(str(path))
    return reader
