"""Image files: ``open`` gives a ``Source`` that reads windows, ``write`` puts an array on a grid.

One module for each library that reads files, named in ``_MODULES``, the only list; it is imported when
the first file of its kind is opened, so importing this package is cheap. A folder is a DICOM series.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.source import Source
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.labels import LabelTable

_MODULES = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
    ".tif": "geotiff",
    ".tiff": "geotiff",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".bmp": "image",
}

SUFFIXES = tuple(_MODULES)
"""Suffixes of the files that ``open`` knows, besides folders of DICOM slices."""
VOLUMES = tuple(s for s, module in _MODULES.items() if module in ("nifti", "itk"))
"""Those of volumes."""
RASTERS = tuple(s for s, module in _MODULES.items() if module == "geotiff")
"""Those of scenes."""
IMAGES = tuple(s for s, module in _MODULES.items() if module == "image")
"""Those of images without a world."""
VECTORS = (".gpkg", ".geojson", ".shp")
"""Suffixes of shapes that ``vector.rasterised`` draws on a grid; ``open`` does not know them."""

_LONGEST_NAME = 255  # bytes, of all usual file systems
_DETACHED = (".nhdr", ".mhd")  # the cells lie in a second file, so that the pair cannot be replaced at once


def suffix(path: Path | str) -> str:
    """Suffix in lower case, ``.nii.gz`` as a whole; empty for a folder.

    Example:
        >>> suffix("case_0000.NII.GZ"), suffix("scan.v2.mha")
        ('.nii.gz', '.mha')
    """
    path = Path(path)
    if os.path.isdir(
        path
    ):  # False for names that no file can have; folders of DICOM are often named by a UID, whose dots mean nothing
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


def open(path: Path | str, *, series: str | None = None, alpha: bool = True) -> Source:
    """Open an image file, or a folder that holds a DICOM series; reads the header only.

    Args:
        path: File with one of ``SUFFIXES``, or folder.
        series: SeriesInstanceUID to take from a folder that holds several.
        alpha: Take a band of a GeoTIFF that is tagged as alpha as validity; False makes it a channel
            (near infrared is tagged so by mistake, see ``GeoTiffSource``).

    Raises:
        InputError: Missing, unknown suffix, unreadable header, or a DICOM folder that is not one volume.
    """
    path = Path(path)
    check_regular(path)
    if path.is_dir():
        from medseg.formats import dicom

        return dicom.open(path, series=series)
    if series is not None:
        raise InputError(f"{path}: series={series} chooses among DICOM series in a folder, but this is a file; drop it")
    module = _module(path)
    options = {"alpha": alpha} if module == "geotiff" else {}
    return import_module(f"medseg.formats.{module}").open(path, **options)


def check_regular(path: Path) -> None:
    """Refuse what is neither a file nor a folder: opening a named pipe waits for ever, a device may never end.

    Raises:
        InputError: Missing, a name that no file can have, a pipe, socket or device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder; fix the path") from None
    except (OSError, ValueError) as error:  # a name that is too long or holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)[:300]}: cannot be opened ({reason}), expected a file or folder") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            f"{path}: is a named pipe, socket or device, expected a file or folder; copy it to a file first"
        )


def write(
    path: Path | str,
    array: Shaped[np.ndarray, " *s"],
    grid: Grid,
    *,
    like: Path | str | None = None,
    labels: LabelTable | None = None,
    nodata: int | None = None,
) -> None:
    """Write a volume, scene or image of one channel, compressed unless ``.nii``; the file appears whole or not at all.

    Types are kept, except those that no format holds: bool becomes uint8, float16 float32. PNG has 8 or
    16 bits, as the values need.

    Args:
        path: Target with one of ``SUFFIXES``, but not JPEG and BMP; replaced if it exists.
        array: Cells, in the axis order of ``grid``.
        grid: For volumes three axes in ``RAS_MM``; for scenes two axes in a CRS or ``PIXEL``; for images
            two axes in ``PIXEL``.
        like: File whose header is to be kept (NIfTI to NIfTI and GeoTIFF to GeoTIFF only, ignored
            otherwise): its sform, qform, codes, zooms and units, or its CRS and transform, are copied
            bit for bit. It must have the same grid.
        labels: What the values mean: the palette of a GeoTIFF or PNG of uint8, and the tag ``CLASS_NAMES``
            of a GeoTIFF (see ``geotiff.explain``). Volumes have neither.
        nodata: Value for the nodata tag of a GeoTIFF; the others have none.

    Raises:
        InputError: Unknown or unwritable suffix, missing folder, a grid that the format does not hold, or
            values that it does not hold.
    """
    path = Path(path)
    module = _writable(path, array.shape, grid)
    stored = _storable(array)
    model = Path(like) if like is not None and _MODULES.get(suffix(like)) == module else None
    options: dict[str, Any] = {"like": model}
    if module == "geotiff":
        _check_nodata(path, nodata, stored.dtype)
        stored, options = stored[None], options | {"labels": labels, "nodata": nodata}
    elif module == "image":
        stored, options = stored[None], {"labels": labels}
    _write(path, module, stored, grid, options)


def write_image(
    path: Path | str,
    image: Shaped[np.ndarray, "c *s"],
    grid: Grid,
    *,
    names: Sequence[str] = (),
    nodata: float | None = None,
) -> None:
    """Write a scene or image of several channels; the file appears whole or not at all.

    Args:
        path: Target: ``.tif`` and ``.tiff`` hold any number of channels, ``.png`` 1 or 3.
        image: Channels; types as for ``write``.
        grid: Two axes in a CRS or ``PIXEL``.
        names: Of the channels (descriptions of the bands); PNG keeps none.
        nodata: Value for the nodata tag of a GeoTIFF, NaN included.

    Raises:
        InputError: As ``write``.
    """
    path = Path(path)
    module = _writable(path, image.shape[1:], grid)
    if module not in ("geotiff", "image"):
        raise InputError(f"{path}: images of several channels are written to {', '.join((*RASTERS, '.png'))} only")
    stored = _storable(image)
    options: dict[str, Any] = {}
    if module == "geotiff":
        _check_nodata(path, nodata, stored.dtype)
        options = {"names": tuple(names), "nodata": nodata}
    _write(path, module, stored, grid, options)


def _write(path: Path, module: str, cells: Shaped[np.ndarray, "..."], grid: Grid, options: dict[str, Any]) -> None:
    """Write to a draft beside the target, then put it in its place."""
    library = import_module(f"medseg.formats.{module}")
    if module == "image":
        library.refuse(path, cells)
    # short, so that every name that a file may have can be written; a stem would have to be cut
    part = path.with_name(f".{secrets.token_hex(4)}{suffix(path)}")
    try:
        library.write(part, cells, grid, **options)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _writable(path: Path, shape: tuple[int, ...], grid: Grid) -> str:
    """Name of the module that writes the file; refuses what it could not hold."""
    kind = suffix(path)
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        length = len(os.fsencode(path.name))
        raise InputError(
            f"{path}: its name has {length} bytes, files may have {_LONGEST_NAME}; shorten the case's name"
        )
    if path.is_dir() or kind == ".dcm":
        raise InputError(f"{path}: DICOM is read but not written; write to {stem(path)}.nii.gz")
    module = _module(path)
    if kind in _DETACHED:
        whole = {".nhdr": ".nrrd", ".mhd": ".mha"}[kind]
        raise InputError(f"{path}: headers with detached data are read but not written; write to {stem(path)}{whole}")
    if module == "image" and kind != ".png":
        raise InputError(f"{path}: {kind} is read but not written, as it may change values; write to {stem(path)}.png")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    start = f"{path}: got a grid of {grid.ndim} axes in frame {grid.frame[:40]!r}"
    if kind in VOLUMES and (grid.ndim != 3 or grid.frame != RAS_MM):
        raise InputError(f"{start}, volume files hold 3 axes in {RAS_MM!r}; write to an image format")
    if kind not in VOLUMES and (grid.ndim != 2 or grid.frame == RAS_MM):
        raise InputError(f"{start}, {kind} holds 2 axes in a CRS or {PIXEL!r}; write to {stem(path)}.nii.gz")
    if kind == ".png" and grid.frame != PIXEL:
        raise InputError(f"{start}, which PNG cannot keep; write to {stem(path)}.tif")
    if shape != grid.shape:
        raise ValueError(f"got an array {shape} with a grid of {grid.shape}")
    return module


def _storable(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    return array.astype({"?": np.uint8, "e": np.float32}.get(array.dtype.char, array.dtype), copy=False)


def _check_nodata(path: Path, nodata: float | None, dtype: np.dtype[Any]) -> None:
    if nodata is None or dtype.kind == "f":
        return
    if not np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max:
        raise InputError(
            f"{path}: got nodata {nodata} for cells of {dtype}, which do not hold it; choose another value"
        )


def _module(path: Path) -> str:
    if suffix(path) not in _MODULES:
        raise InputError(
            f"{path}: unknown suffix {suffix(path)!r}; known are {', '.join(SUFFIXES)}, or a folder of DICOM slices; "
            f"masks of scenes may also be vectors ({', '.join(VECTORS)})"
        )
    return _MODULES[suffix(path)]
