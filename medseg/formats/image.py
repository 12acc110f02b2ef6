"""PNG, JPEG and BMP (``.png``, ``.jpg``, ``.jpeg``, ``.bmp``), through PIL."""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Shaped
from PIL import Image, UnidentifiedImageError

from medseg.errors import InputError
from medseg.formats.source import Source, damage_told
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid
from medseg.labels import LabelTable

_DAMAGE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError)
_KINDS: dict[str, tuple[int, str]] = {  # PIL's mode: channels without alpha, stored type
    "1": (1, "uint8"), "L": (1, "uint8"), "P": (1, "uint8"), "LA": (1, "uint8"),
    "I;16": (1, "uint16"), "RGB": (3, "uint8"), "RGBA": (3, "uint8"),
}  # fmt: skip
_STRETCH = {"L;2": 85, "L;4": 17}  # what PIL multiplies grey of 2 and 4 bits by


class ImageSource(Source):
    """A picture: palette, grey of 1 to 16 bits, or RGB of 8 bits.

    Cells are the stored numbers: indices of a palette (so that a palette mask reads as classes), 0 and
    1 where there is one bit. Alpha is no channel: where it is 0, cells are not valid. A colour that a
    palette or a PNG declares transparent is an ordinary one. The frame is ``PIXEL``.

    The EXIF orientation of a photograph is not applied, as in PIL and torchvision: rows and columns
    are those of the file. Labels drawn in a tool that turns photographs have to be turned back.

    A file is decoded whole. The last two stay in memory, so that windows of one share a decoding.
    """

    def __init__(self, path: Path) -> None:
        with damage_told(path, *_DAMAGE), _open(path) as picture:
            mode, raw, (width, height) = picture.mode, _raw_mode(picture), picture.size
        if mode not in _KINDS:
            raise InputError(
                f"{path}: holds colours of kind {mode}, expected a palette, grey or RGB; convert it to RGB"
            )
        if _KINDS[mode][1] == "uint8" and ";16" in raw:
            raise InputError(
                f"{path}: holds colours of 16 bits, which PIL cuts to 8; convert it to .tif (gdal_translate)"
            )
        self.path = path
        self.grid = Grid((height, width), np.eye(3), PIXEL)
        self.n_channels, stored = _KINDS[mode]
        self.dtype = np.dtype(stored)
        self.names = ("R", "G", "B") if self.n_channels == 3 else ()

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        return np.moveaxis(self._cells()[box.slices], -1, 0)[list(channels)]

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        whole = self._cells()
        return whole[box.slices][..., -1] > 0 if whole.shape[-1] > self.n_channels else None

    def _cells(self) -> Shaped[np.ndarray, "..."]:
        with damage_told(self.path, *_DAMAGE):
            state = os.stat(self.path)
            cells = _decode(self.path, state.st_mtime_ns, state.st_size)
            if cells.shape[:2] != self.grid.shape or cells.shape[-1] not in (self.n_channels, self.n_channels + 1):
                raise OSError("it was replaced by another image while in use")
        return cells


def open(path: Path) -> ImageSource:
    """Open a picture."""
    return ImageSource(path)


def refuse(path: Path, image: Shaped[np.ndarray, "c h w"]) -> None:
    """Raise InputError for values that PNG does not hold."""
    if len(image) not in (1, 3):
        raise InputError(f"{path}: got {len(image)} channels, PNG holds 1 or 3; write to {path.stem}.tif")
    top = 65535 if len(image) == 1 else 255
    whole = image.dtype.kind in "iu"
    low, high = image.min(initial=0), image.max(initial=0)
    if not whole or low < 0 or high > top:
        values = f"integers of {low} to {high}" if whole else image.dtype.name
        raise InputError(f"{path}: got {values}, PNG holds 0 to {top} here; write to {path.stem}.tif")


def write(path: Path, image: Shaped[np.ndarray, "c h w"], grid: Grid, *, labels: LabelTable | None = None) -> None:
    """Write a PNG file of one channel (8 or 16 bits, as the values need) or three (8 bits).

    With labels and 8 bits, the cells are indices of a palette of the classes' colours, in which other
    values are grey.
    """
    wide = image.max(initial=0) > 255
    cells = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
    picture = Image.fromarray(np.ascontiguousarray(cells, dtype=np.uint16 if wide else np.uint8))
    if labels is not None and not wide:
        colours = {c.saved: c.colour for c in labels.classes}
        picture.putpalette([level for v in range(256) for level in colours.get(v, (v, v, v))])
    picture.save(path, format="PNG")


@lru_cache(maxsize=2)
def _decode(path: Path, changed: int, size: int) -> Shaped[np.ndarray, "..."]:
    """Stored numbers ``[row, column, channel]``, alpha last; kept for as long as the file stays the same."""
    with _open(path) as picture:
        stretch = _STRETCH.get(_raw_mode(picture), 1)
        cells = np.array(picture)
    cells = cells.astype(np.uint8 if cells.dtype == bool else cells.dtype.newbyteorder("="))
    cells = cells.reshape(*cells.shape[:2], -1)
    if stretch > 1:
        cells //= cells.dtype.type(stretch)
    cells.setflags(write=False)
    return cells


def _open(path: Path) -> Image.Image:
    """The picture, its header read; PIL's warning of large files is not passed on, as its limit refuses them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(path, formats=("PNG", "JPEG", "BMP"))
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{path}: too large to decode whole ({error}); convert it to a tiled .tif (gdal_translate)"
            ) from error


def _raw_mode(picture: Image.Image) -> str:
    """How PIL says that cells are stored, such as ``L;2``."""
    tiles = getattr(picture, "tile", ())
    args = tiles[0][3] if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)
