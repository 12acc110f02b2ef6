"""GeoTIFF and Cloud-Optimised GeoTIFF, JPEG 2000 and VRT, through rasterio, in windows."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from jaxtyping import Shaped
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from medseg.errors import InputError
from medseg.formats.georeference import grid_of
from medseg.formats.nodata import comparable, with_data
from medseg.formats.source import Source, damage_told, read_dtype
from medseg.geometry.box import Box

DAMAGE = (RasterioError, CPLE_BaseError, OSError)
"""Exceptions of rasterio for a file that it cannot read."""

OPEN_FILES = 32
"""Largest number of open handles of a process."""

MOST_BANDS = 10_000
"""Largest number of bands of a file; sensors have some hundreds, series of them some thousands."""

_DRIVERS = {".jp2": "JP2OpenJPEG", ".vrt": "VRT"}
"""GDAL's driver of each suffix; of all others that of GeoTIFF."""

_CACHE_MB = 128
"""Size of GDAL's cache of decoded blocks; its own default is 5 % of the memory in each worker."""

# GDAL's messages are raised as exceptions, too: Python does not print them where nobody has set up logging
logging.getLogger("rasterio._env").addHandler(logging.NullHandler())

_opening = threading.RLock()


def _renew_lock() -> None:
    """Give a forked process a lock that no thread of its parent holds."""
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class GeoTiffSource(Source):
    """A file that GDAL reads, such as GeoTIFF, of which a window decodes only the blocks that it touches.

    The grid is that of the file, whether north-up, south-up or rotated; nothing is flipped. Without a
    CRS its frame is ``PIXEL``, and without a transform its affine the identity; ground control
    points are not used. Scale and offset tags are applied. Channels are all bands but alpha.

    Not valid are cells with the nodata value of a band that is read (NaN too, if that is the nodata
    value), and those under the file's mask or where alpha is 0.

    Args:
        path: The file.
        alpha: Whether a band that is tagged as alpha is validity. By default GDAL tags the fourth band of uint8
            files so, also where it is near infrared; False makes it a channel.
    """

    def __init__(self, path: Path, *, alpha: bool = True) -> None:
        self.path = path
        with damage_told(path, *DAMAGE):
            scene = _handle(path, _stamp(path), os.getpid(), threading.get_ident())
            _check_scene(path, scene)
            self._bands, self._alpha = _bands_and_alpha(path, scene, alpha=alpha)
            # rasterio computes these for all bands at every access
            flags, descriptions, nodata = scene.mask_flag_enums, scene.descriptions, scene.nodatavals
            scales, offsets = scene.scales, scene.offsets
            self.grid = grid_of(path, scene.shape, scene.transform, scene.crs)
            self._stored = _stored(scene.dtypes)
        positions = [band - 1 for band in self._bands]
        self.n_channels = len(positions)
        self.names = _names([descriptions[i] for i in positions])
        self._scales = tuple((scales[i], offsets[i]) for i in positions)
        self._scaled = any(scale != (1, 0) for scale in self._scales)
        self.dtype = read_dtype(path, self._stored, scaled=self._scaled)
        self._masked = any(_has_mask(flags[i]) for i in positions)
        self._nodata = tuple(comparable(nodata[i], self._stored) for i in positions)

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        with self.reading() as scene:
            cells = scene.read([self._bands[c] for c in channels], window=_window(box))
        if self._scaled:
            factors = np.array([self._scales[c] for c in channels])
            cells = cells * factors[:, 0, None, None] + factors[:, 1, None, None]
        with np.errstate(over="ignore"):  # the lowest float64, a common nodata value, becomes -inf
            return np.asarray(cells, dtype=self.dtype)

    def _stored_values(self, box: Box, channels: Sequence[int]) -> Shaped[np.ndarray, "c *s"]:
        """Values of channels as the file stores them, of which a tag of nodata is one."""
        with self.reading() as scene:
            stored: np.ndarray = scene.read([self._bands[c] for c in channels], window=_window(box))
        return stored

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        tagged = [c for c in channels if self._nodata[c] is not None]
        stored = cells[[channels.index(c) for c in tagged]] if tagged != [*channels] else cells
        if self._scaled and tagged:
            stored = self._stored_values(box, tagged)
        masks = [*with_data(stored, [self._nodata[c] for c in tagged]), *self._file_masks(box)]
        for other in masks[1:]:
            masks[0] &= other
        return masks[0] if masks else None

    def _file_masks(self, box: Box) -> list[npt.NDArray[np.bool_]]:
        """Where the file's mask and its alpha bands are not 0."""
        masks = []
        if self._masked:
            with self.reading() as scene:
                masks.append(scene.read_masks(self._bands[0], window=_window(box)) > 0)
        if self._alpha:
            with self.reading() as scene:
                masks += list(scene.read(list(self._alpha), window=_window(box)) > 0)
        return masks

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The open file; errors in the block are reported as damage of it."""
        with damage_told(self.path, *DAMAGE):
            try:
                scene = _handle(self.path, _stamp(self.path), os.getpid(), threading.get_ident())
                if scene.shape != self.grid.shape or max(self._bands) > scene.count:
                    raise OSError("it was replaced by another image while in use")
                yield scene
            except RasterioError as error:
                raise (error.__cause__ if isinstance(error.__cause__, DAMAGE) else error) from None


def open(path: Path, *, alpha: bool = True) -> GeoTiffSource:
    """Open a GeoTIFF or JPEG 2000 file, or a VRT whose content was checked."""
    return GeoTiffSource(path, alpha=alpha)


@contextmanager
def unreferenced_unsaid() -> Iterator[None]:
    """Silence rasterio where a file has no georeference, which is ordinary for images."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _check_scene(path: Path, scene: Any) -> None:
    """Raise on too many bands and on several pages."""
    if scene.count > MOST_BANDS:
        raise InputError(f"{path}: has {scene.count} bands, expected at most {MOST_BANDS}; check the file")
    if len(scene.subdatasets) > 1:
        pages = len(scene.subdatasets)
        raise InputError(f"{path}: holds {pages} pages, one was expected; save each as its own file")


def _bands_and_alpha(path: Path, scene: Any, *, alpha: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of the bands that are channels, from 1, and of those that are alpha."""
    indexes, interpretation = scene.indexes, scene.colorinterp
    tagged = tuple(b for b, kind in zip(indexes, interpretation) if alpha and kind == ColorInterp.alpha)
    bands = tuple(b for b in indexes if b not in set(tagged))
    if not bands:
        raise InputError(f"{path}: holds an alpha band only, channels were expected; save it without alpha")
    return bands, tagged


def _has_mask(flags: Sequence[MaskFlags]) -> bool:
    """Whether a band has a mask of the file, other than an alpha band."""
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _stamp(path: Path) -> tuple[int, int, int]:
    """Time, size and inode of a file, which change when it is replaced."""
    state = os.stat(path)
    return state.st_mtime_ns, state.st_size, state.st_ino


@lru_cache(maxsize=OPEN_FILES)
def _handle(path: Path, stamp: tuple[int, int, int], process: int, thread: int) -> Any:
    """An open file for one thread of one process: GDAL's handles can be shared by neither."""
    _bound_gdal(process)
    with unreferenced_unsaid():
        return rasterio.open(path, driver=_DRIVERS.get(path.suffix.lower(), "GTiff"))


@lru_cache(maxsize=1)
def _bound_gdal(process: int) -> None:
    """In this process, limit GDAL's cache unless the environment does, and never run Python that a VRT holds."""
    with rasterio.Env():
        rasterio.env.set_gdal_config("GDAL_VRT_ENABLE_PYTHON", "NO")
        if "GDAL_CACHEMAX" not in os.environ:
            rasterio.env.set_gdal_config("GDAL_CACHEMAX", _CACHE_MB << 20)


def _window(box: Box) -> Window:
    """The box as rasterio's window."""
    (row, col), (height, width) = box.start, box.shape
    return Window(col, row, width, height)


def _stored(names: tuple[str, ...]) -> np.dtype:
    """Type that holds every band; GDAL's complex integers, which numpy lacks, count as complex."""
    return np.result_type(*["complex64" if name.startswith("complex") else name for name in names])


def _names(descriptions: list[str | None]) -> tuple[str, ...]:
    """Names of the bands, if each has one of its own; else empty."""
    names = tuple(d.strip() for d in descriptions if d)
    return names if len(set(names)) == len(descriptions) and all(names) else ()
