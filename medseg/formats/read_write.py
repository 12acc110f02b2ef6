"""Open and write image files of any format, by their suffix."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.format import Format, OpenOptions, WriteOptions
from medseg.formats.registry import DICOM, VECTORS, find_format, stem, suffix, suffixes
from medseg.formats.source import Source
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable
from medseg.runtime.atomic import atomic_file

_LONGEST_NAME = 255  # bytes, of all usual file systems


def open(path: Path | str, *, series: str | None = None, alpha: bool = True) -> Source:
    """Open an image file, or a folder that holds a DICOM series; reads the header only.

    Args:
        path: File with one of ``suffixes()``, or folder.
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
    return _known(path).open(path, OpenOptions(alpha=alpha))


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
        path: Target with a suffix that is written (not JPEG and BMP); replaced if it exists.
        array: Cells, in the axis order of ``grid``.
        grid: For volumes three axes in ``RAS_MM``; for scenes two axes in a CRS or ``PIXEL``; for images
            two axes in ``PIXEL``.
        like: File whose header is to be kept (NIfTI to NIfTI and GeoTIFF to GeoTIFF only, ignored
            otherwise): its sform, qform, codes, zooms and units, or its CRS and transform, are copied
            bit for bit. It must have the same grid.
        labels: Table of the values: the palette of a GeoTIFF or PNG of uint8, and the tag ``CLASS_NAMES``
            of a GeoTIFF (see ``geotiff_write.explain``). Volumes have neither.
        nodata: Value for the nodata tag of a GeoTIFF; the others have none.

    Raises:
        InputError: Unknown or unwritable suffix, missing folder, a grid that the format does not hold, or
            values that it does not hold.
    """
    path = Path(path)
    form = _writable(path, array.shape, grid)
    model = Path(like) if like is not None and type(find_format(like)) is type(form) else None
    _write(path, form, _storable(array)[None], grid, WriteOptions(like=model, labels=labels, nodata=nodata))


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
        names: Names of the channels (descriptions of the bands); PNG stores none.
        nodata: Value for the nodata tag of a GeoTIFF, NaN included.

    Raises:
        InputError: As ``write``.
    """
    path = Path(path)
    form = _writable(path, image.shape[1:], grid)
    if not form.many_channels:
        fitting = [s for s in suffixes(written=True) if (f := find_format(f"image{s}")) and f.many_channels]
        raise InputError(f"{path}: images of several channels are written to {', '.join(fitting)} only")
    _write(path, form, _storable(image), grid, WriteOptions(nodata=nodata, names=tuple(names)))


def _write(path: Path, form: Format, cells: Shaped[np.ndarray, "..."], grid: Grid, options: WriteOptions) -> None:
    """Write to a draft in the same folder, then rename it."""
    form.check_cells(path, cells, options)
    with atomic_file(path, suffix=suffix(path)) as draft:
        form.write(draft, cells, grid, options)


def _writable(path: Path, shape: tuple[int, ...], grid: Grid) -> Format:
    """Format of a file to be written; checks what it can hold."""
    own = suffix(path)
    if (length := len(os.fsencode(path.name))) > _LONGEST_NAME:
        raise InputError(
            f"{path}: its name has {length} bytes, files may have {_LONGEST_NAME}; shorten the case's name"
        )
    if path.is_dir() or own == DICOM:
        raise InputError(f"{path}: DICOM is read but not written; write to {stem(path)}.nii.gz")
    form = _known(path)
    if own not in form.written:
        reason = f", as {form.unwritten}" if form.unwritten else ""
        raise InputError(
            f"{path}: {own} is read but not written{reason}; write to {stem(path)}{form.label_suffix(own)}"
        )
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    form.check_grid(path, own, grid)
    if shape != grid.shape:
        raise ValueError(f"got an array {shape} with a grid of {grid.shape}")
    return form


def _storable(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    return array.astype({"?": np.uint8, "e": np.float32}.get(array.dtype.char, array.dtype), copy=False)


def _known(path: Path) -> Format:
    """Format of a file.

    Raises:
        InputError: No format reads its suffix.
    """
    form = find_format(path)
    if form is None:
        raise InputError(
            f"{path}: unknown suffix {suffix(path)!r}; known are {', '.join(suffixes())}, or a folder of DICOM slices; "
            f"masks of scenes may also be vectors ({', '.join(VECTORS)})"
        )
    return form
