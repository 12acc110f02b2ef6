"""Volume files: ``open`` gives a ``Source`` that reads windows, ``write`` puts an array on a grid.

One module for each library that reads files, named in ``_MODULES``, the only list; it is imported when
the first file of its kind is opened, so importing this package is cheap. A folder is a DICOM series.
"""

from __future__ import annotations

import os
import secrets
from importlib import import_module
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medseg.errors import BadInput
from medseg.formats.source import Source
from medseg.geometry.grid import RAS_MM, Grid

_MODULES = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
}

SUFFIXES = tuple(_MODULES)
"""Suffixes of the volume files that ``open`` knows, besides folders of DICOM slices."""

_DETACHED = (".nhdr", ".mhd")  # the cells lie in a second file, so that the pair cannot be replaced at once


def suffix(path: Path | str) -> str:
    """Suffix in lower case, ``.nii.gz`` as a whole; empty for a folder.

    Example:
        >>> suffix("case_0000.NII.GZ"), suffix("scan.v2.mha")
        ('.nii.gz', '.mha')
    """
    path = Path(path)
    if path.is_dir():  # folders of DICOM are often named by a UID, whose dots mean nothing
        return ""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def stem(path: Path | str) -> str:
    """File name without ``suffix``; the whole name of a folder.

    Example:
        >>> stem("folder/case_0000.nii.gz")
        'case_0000'
    """
    path = Path(path)
    return path.name[: len(path.name) - len(suffix(path))]


def open(path: Path | str, *, series: str | None = None) -> Source:
    """Open a volume file, or a folder that holds a DICOM series; reads the header only.

    Args:
        path: File with one of ``SUFFIXES``, or folder.
        series: SeriesInstanceUID to take from a folder that holds several.

    Raises:
        BadInput: Missing, unknown suffix, unreadable header, or a DICOM folder that is not one volume.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder; mend the path")
    if path.is_dir():
        from medseg.formats import dicom

        return dicom.open(path, series=series)
    if series is not None:
        raise BadInput(f"{path}: series={series} chooses among DICOM series in a folder, but this is a file; drop it")
    return import_module(f"medseg.formats.{_module(path)}").open(path)


def write(
    path: Path | str,
    array: Shaped[np.ndarray, " *s"],
    grid: Grid,
    *,
    like: Path | str | None = None,
) -> None:
    """Write a volume of one channel, compressed unless ``.nii``; the file appears whole or not at all.

    Types are kept, except those that no format holds: bool becomes uint8, float16 float32.

    Args:
        path: Target with one of ``SUFFIXES``; replaced if it exists.
        array: Cells, in the axis order of ``grid``.
        grid: Three axes, in ``RAS_MM``.
        like: File whose header is to be kept (NIfTI to NIfTI only, ignored otherwise): its sform,
            qform, codes, zooms and units are copied bit for bit. It must have the same grid.

    Raises:
        BadInput: Unknown or unwritable suffix, missing folder, or a grid that is not one of a volume.
    """
    path = Path(path)
    if path.is_dir() or suffix(path) == ".dcm":
        raise BadInput(f"{path}: DICOM is read but not written; write to {stem(path)}.nii.gz")
    module = _module(path)
    if suffix(path) in _DETACHED:
        whole = {".nhdr": ".nrrd", ".mhd": ".mha"}[suffix(path)]
        raise BadInput(f"{path}: headers with detached data are read but not written; write to {stem(path)}{whole}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: the folder {path.parent} does not exist; make it first")
    if grid.ndim != 3 or grid.frame != RAS_MM:
        raise BadInput(
            f"{path}: a grid of {grid.ndim} axes in frame {grid.frame[:40]!r} came, volume files hold 3 axes in "
            f"{RAS_MM!r}; write to an image format"
        )
    if array.shape != grid.shape:
        raise ValueError(f"an array {array.shape} came with a grid of {grid.shape}")
    stored = array.astype({"?": np.uint8, "e": np.float32}.get(array.dtype.char, array.dtype), copy=False)
    model = Path(like) if like is not None and _MODULES.get(suffix(like)) == module else None
    part = path.with_name(f".{stem(path)}.{secrets.token_hex(4)}{suffix(path)}")
    try:
        import_module(f"medseg.formats.{module}").write(part, stored, grid, like=model)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _module(path: Path) -> str:
    if suffix(path) not in _MODULES:
        raise BadInput(
            f"{path}: unknown suffix {suffix(path)!r}; volumes are {', '.join(SUFFIXES)}, or a folder of DICOM slices"
        )
    return _MODULES[suffix(path)]
