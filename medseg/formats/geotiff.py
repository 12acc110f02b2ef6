"""GeoTIFF and Cloud-Optimised GeoTIFF (``.tif``, ``.tiff``), through rasterio, in windows."""

from __future__ import annotations

import json
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
from medseg.formats.georeference import crs_of, grid_of, transform_of, whole_cells
from medseg.formats.nodata import comparable, with_data
from medseg.formats.source import Source, damage_told, read_dtype
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable

DAMAGE = (RasterioError, CPLE_BaseError, OSError)
"""What rasterio raises for a file that it cannot read."""

OPEN_FILES = 32
"""Handles that a process keeps open."""

MOST_BANDS = 10_000
"""Bands that a file may have; sensors have some hundreds, series of them some thousands."""

_CACHE_MB = 128
"""Decoded blocks that GDAL keeps; its own default is 5 % of the memory in each worker."""

# GDAL's messages are raised as exceptions too; on the console they would be told twice
logging.getLogger("rasterio._env").setLevel(logging.CRITICAL)

_opening = threading.RLock()


def _renew_lock() -> None:
    """Give a forked process a lock that no thread of its parent holds."""
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


class GeoTiffSource(Source):
    """A GeoTIFF file, of which a window decodes only the blocks that it touches.

    The grid is that of the file, whether north-up, south-up or rotated; nothing is flipped. Without a
    CRS its frame is ``PIXEL``, and without a transform its affine the identity; ground control
    points are not used. Scale and offset tags are applied. Channels are all bands but alpha.

    Not valid are cells with the nodata value of a band that is read (NaN too, if that is the nodata
    value), and those under the file's mask or where alpha is 0.

    Args:
        path: The file.
        alpha: Take a band that is tagged as alpha as validity. GDAL tags the fourth band of uint8
            files so unless told otherwise, also where it is near infrared; False makes it a channel.
    """

    def __init__(self, path: Path, *, alpha: bool = True) -> None:
        self.path = path
        with damage_told(path, *DAMAGE):
            scene = _handle(path, _stamp(path), os.getpid(), threading.get_ident())
            if scene.count > MOST_BANDS:
                raise InputError(f"{path}: has {scene.count} bands, expected at most {MOST_BANDS}; check the file")
            if len(scene.subdatasets) > 1:
                pages = len(scene.subdatasets)
                raise InputError(f"{path}: holds {pages} pages, one was expected; save each as its own file")
            # rasterio computes these for all bands whenever one is asked for
            indexes, interpretation, flags = scene.indexes, scene.colorinterp, scene.mask_flag_enums
            descriptions, scales, offsets, nodata = scene.descriptions, scene.scales, scene.offsets, scene.nodatavals
            self.grid = grid_of(path, scene.shape, scene.transform, scene.crs)
            self._stored = _stored(scene.dtypes)
        tagged = [b for b, kind in zip(indexes, interpretation) if kind == ColorInterp.alpha] if alpha else []
        bands = [b for b in indexes if b not in set(tagged)]
        if not bands:
            raise InputError(f"{path}: holds an alpha band only, channels were expected; save it without alpha")
        kept = [b - 1 for b in bands]
        self.n_channels = len(bands)
        self.names = _names([descriptions[i] for i in kept])
        self._bands, self._alpha = tuple(bands), tuple(tagged)
        self._scales = tuple((scales[i], offsets[i]) for i in kept)
        self._scaled = any(scale != (1, 0) for scale in self._scales)
        self.dtype = read_dtype(path, self._stored, scaled=self._scaled)
        self._masked = any(MaskFlags.per_dataset in flags[i] and MaskFlags.alpha not in flags[i] for i in kept)
        self._nodata = tuple(comparable(nodata[i], self._stored) for i in kept)

    def _read(self, box: Box, channels: tuple[int, ...]) -> npt.NDArray[Any]:
        with self.reading() as scene:
            cells = scene.read([self._bands[c] for c in channels], window=_window(box))
        if self._scaled:
            factors = np.array([self._scales[c] for c in channels])
            cells = cells * factors[:, 0, None, None] + factors[:, 1, None, None]
        with np.errstate(over="ignore"):  # the lowest float64, a common nodata value, becomes -inf
            return np.asarray(cells, dtype=self.dtype)

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "c *s"]
    ) -> npt.NDArray[np.bool_] | None:
        tagged = [c for c in channels if self._nodata[c] is not None]
        stored = cells[[channels.index(c) for c in tagged]] if tagged != [*channels] else cells
        if self._scaled and tagged:  # the tag is a stored value
            with self.reading() as scene:
                stored = scene.read([self._bands[c] for c in tagged], window=_window(box))
        values = [self._nodata[c] for c in tagged]
        found = with_data(stored, values)
        if self._masked:
            with self.reading() as scene:
                found.append(scene.read_masks(self._bands[0], window=_window(box)) > 0)
        if self._alpha:
            with self.reading() as scene:
                found += list(scene.read(list(self._alpha), window=_window(box)) > 0)
        for other in found[1:]:
            found[0] &= other
        return found[0] if found else None

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The open file; what goes wrong meanwhile is told as damage."""
        with damage_told(self.path, *DAMAGE):
            try:
                scene = _handle(self.path, _stamp(self.path), os.getpid(), threading.get_ident())
                if scene.shape != self.grid.shape or max(self._bands) > scene.count:
                    raise OSError("it was replaced by another image while in use")
                yield scene
            except RasterioError as error:
                raise (error.__cause__ if isinstance(error.__cause__, DAMAGE) else error) from None


def open(path: Path, *, alpha: bool = True) -> GeoTiffSource:
    """Open a GeoTIFF file."""
    return GeoTiffSource(path, alpha=alpha)


@contextmanager
def unreferenced_unsaid() -> Iterator[None]:
    """Silence rasterio where a file has no georeference, which is ordinary for images."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def write(
    path: Path,
    image: Shaped[np.ndarray, "c h w"],
    grid: Grid,
    *,
    like: Path | None = None,
    labels: LabelTable | None = None,
    nodata: float | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write a tiled, compressed GeoTIFF file.

    Args:
        path: Target.
        image: Bands.
        grid: Of two axes; CRS and transform are its own.
        like: File of the same grid whose CRS and transform are copied bit for bit.
        labels: What the values mean, for palette and class names; see ``explain``.
        nodata: Value for the nodata tag.
        names: Descriptions of the bands.

    Raises:
        ValueError: ``like`` has another grid.
    """
    settings = profile(grid, image.dtype, len(image), nodata=nodata, like=like, smooth=labels is None)
    with unreferenced_unsaid(), rasterio.open(path, "w", **settings) as scene:
        if labels is not None:
            explain(scene, labels)
        scene.write(image)
        for band, name in enumerate(names, start=1):
            scene.set_band_description(band, name)


def profile(
    grid: Grid,
    dtype: npt.DTypeLike,
    n_bands: int,
    *,
    nodata: float | None = None,
    like: Path | None = None,
    smooth: bool = False,
) -> dict[str, Any]:
    """Settings for ``rasterio.open(path, "w", **settings)``: tiled, deflate, placed as ``grid`` is.

    Args:
        grid: Of two axes.
        dtype: Of the cells.
        n_bands: Bands; none of them is tagged as alpha.
        nodata: Value for the nodata tag.
        like: File of the same grid whose CRS and transform are copied bit for bit.
        smooth: Cells are measurements, of which differences compress better than values.

    Raises:
        ValueError: ``like`` has another grid.
    """
    transform, crs = transform_of(grid), crs_of(grid.frame)
    if like is not None:
        model = GeoTiffSource(like)
        if whole_cells(grid, model.grid) != (0, 0) or grid.shape != model.grid.shape:
            raise ValueError(f"{like} has another grid than the one to be written, so its transform would be false")
        with model.reading() as scene:
            transform, crs = (scene.transform if transform is not None else None), scene.crs
    kind = np.dtype(dtype)
    block = 512 if min(grid.shape) > 2048 else 256
    return {
        "driver": "GTiff",
        "height": grid.shape[0],
        "width": grid.shape[1],
        "count": n_bands,
        "dtype": kind.name,
        "nodata": nodata,
        "crs": crs,
        **({} if transform is None else {"transform": transform}),
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "compress": "deflate",
        "predictor": 1 if not smooth else 3 if kind.kind == "f" else 2,
        "photometric": "RGB" if n_bands == 3 and kind == np.uint8 else "MINISBLACK",
        "bigtiff": "IF_SAFER",
    }


def explain(scene: Any, labels: LabelTable) -> None:
    """Put what label values mean into a file that is being written.

    The tag ``CLASS_NAMES`` of the file is a JSON object from saved value to class name, as in
    ``{"0": "background", "1": "burned"}``. Files of one uint8 band get the classes' colours as palette.

    Args:
        scene: Rasterio's dataset, before any cell is written.
        labels: The label table of the values.
    """
    scene.update_tags(CLASS_NAMES=json.dumps({str(c.saved): c.name for c in labels.classes}))
    if scene.count == 1 and scene.dtypes[0] == "uint8":
        scene.write_colormap(1, {c.saved: (*c.colour, 255) for c in labels.classes})


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced."""
    state = os.stat(path)
    return state.st_mtime_ns, state.st_size, state.st_ino


@lru_cache(maxsize=OPEN_FILES)
def _handle(path: Path, stamp: tuple[int, int, int], process: int, thread: int) -> Any:
    """An open file for one thread of one process: GDAL's handles can be shared by neither."""
    _bound_cache(process)
    with unreferenced_unsaid():
        return rasterio.open(path, driver="GTiff")


@lru_cache(maxsize=1)
def _bound_cache(process: int) -> None:
    if "GDAL_CACHEMAX" not in os.environ:
        with rasterio.Env():
            rasterio.env.set_gdal_config("GDAL_CACHEMAX", _CACHE_MB << 20)


def _window(box: Box) -> Window:
    (row, col), (height, width) = box.start, box.shape
    return Window(col, row, width, height)


def _stored(names: tuple[str, ...]) -> np.dtype[Any]:
    """Type that holds every band; GDAL's complex integers, which numpy lacks, count as complex."""
    return np.result_type(*["complex64" if name.startswith("complex") else name for name in names])


def _names(descriptions: list[str | None]) -> tuple[str, ...]:
    names = tuple(d.strip() for d in descriptions if d)
    return names if len(set(names)) == len(descriptions) and all(names) else ()
