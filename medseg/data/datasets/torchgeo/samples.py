"""Samples of a torchgeo dataset as sources: decoded on demand, geo datasets window by window."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Shaped

from medseg.data.datasets.torchgeo.recipe import Recipe, quiet
from medseg.data.preprocessing.windows import tiles
from medseg.errors import InputError
from medseg.formats.geotiff import DAMAGE
from medseg.formats.source import Source
from medseg.geometry.box import Box
from medseg.geometry.grid import PIXEL, Grid

_versions: Counter[Recipe] = Counter()  # how often the files of each dataset may have changed
_locks: dict[int, threading.RLock] = {}  # by process: GDAL's handles in a dataset are for one thread at a time


@dataclass(frozen=True)
class Cells:
    """What a dataset gave for one window.

    Attributes:
        image: Channels; of a time series those of all dates, one date after another.
        label: Raw values; None where the sample has no mask.
        known: False outside the footprint of a scene.
        dates: Number of dates of a time series; else 0.
    """

    image: Float[np.ndarray, "c *s"]
    label: Int[np.ndarray, " *s"] | None
    known: Bool[np.ndarray, " *s"]
    dates: int = 0


@dataclass(frozen=True)
class Samples:
    """The samples of one dataset, by number; small, and can be pickled: each process builds its own dataset.

    Of a geo dataset, a sample is a row of its index (a scene, or the intersection of a scene and a mask) as
    ``PreChippedGeoSampler`` gives it, on a north-up grid of the dataset's resolution that begins at the
    upper left corner of the row's bounds. Windows are queries of their own, so a scene is never decoded
    whole. Any other dataset is indexed by number, and its last two samples stay in memory.

    Attributes:
        recipe: The dataset.
        image_keys: Entries of a sample that are the image, one after the other.
        mask_key: Entry that is the label.
        mask_channel: Channel of the mask that is the label, where it has several.
    """

    recipe: Recipe
    image_keys: tuple[str, ...] = ("image",)
    mask_key: str = "mask"
    mask_channel: int | None = None

    @property
    def dataset(self) -> Any:
        """The dataset, of this process."""
        with _lock():
            return _built(self.recipe, self._state)

    def forget(self) -> None:
        """Read the dataset and its samples anew, as their files may have changed; other datasets stay as they are."""
        _versions[self.recipe] += 1

    @property
    def _state(self) -> tuple[int, int]:
        """Process, and version of the files: each has a dataset and samples of its own."""
        return os.getpid(), _versions[self.recipe]

    @property
    def is_geo(self) -> bool:
        """Whether samples are places, not numbers."""
        from torchgeo.datasets import GeoDataset

        return isinstance(self.dataset, GeoDataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def grid(self, number: int) -> Grid:
        """Grid of a sample."""
        if not self.is_geo:
            return Grid(self.read(number, None).image.shape[1:], np.eye(3), PIXEL)
        from affine import Affine
        from rasterio.crs import CRS

        from medseg.formats.georeference import grid_of

        (xs, ys, _), (width, height) = self._row(number), self.dataset.res
        shape = [max(1, round((axis.stop - axis.start) / step)) for axis, step in ((ys, height), (xs, width))]
        crs = None if self.dataset.crs is None else CRS.from_user_input(self.dataset.crs)
        code = crs.to_epsg() if crs else None
        crs = CRS.from_epsg(code) if code else crs  # in the words of files, which pyproj does not keep
        return grid_of(Path(self.recipe.class_path), shape, Affine(width, 0, xs.start, 0, -height, ys.stop), crs)

    def read(self, number: int, box: Box | None) -> Cells:
        """Cells of a sample, or of a window of it.

        Raises:
            InputError: The sample has no such entries, or not of the shape of an image and a mask.
        """
        with _lock():
            if self.is_geo:
                return _window(self, number, box or Box.whole(self.grid(number).shape), self._state)
            whole = _whole(self, number, self._state)
        if box is None:
            return whole
        label = None if whole.label is None else whole.label[box.slices]
        return Cells(whole.image[(slice(None), *box.slices)], label, whole.known[box.slices], whole.dates)

    def _row(self, number: int) -> tuple[slice, slice, slice]:
        """Bounds of a row of a geo dataset's index, in x, y and time."""
        with _lock():
            row: tuple[slice, slice, slice] = _rows(self.recipe, self._state)[number]
            return row

    def query(self, number: int, box: Box) -> Cells:
        """What a geo dataset gives for a window of a row; not known where it has nothing."""
        (xs, ys, times), (width, height) = self._row(number), self.dataset.res
        (top, left), (bottom, right) = box.start, box.stop
        columns = slice(xs.start + left * width, xs.start + right * width)
        rows = slice(ys.stop - bottom * height, ys.stop - top * height)
        inside = self._inside(number, box)
        try:
            with quiet(), self._reporting(number):
                sample = self.dataset[columns, rows, times]
        except IndexError:  # a corner of the bounds in which no file lies
            return Cells(np.zeros((0, *box.shape), np.float32), None, np.zeros(box.shape, bool))
        cells = self._cells(sample, inside)
        if cells.known.shape != box.shape:
            raise InputError(
                f"{self.recipe.class_path}: got {cells.known.shape} cells for a window of {box.shape}; a geo dataset "
                "has to give as many as its resolution says"
            )
        return cells

    @contextmanager
    def _reporting(self, number: int) -> Iterator[None]:
        """Context in which errors of a dataset about a missing or damaged file become one line."""
        try:
            yield
        except (*DAMAGE, RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                f"{self.recipe.class_path}: its sample {number} cannot be read "
                f"({' '.join(str(error).split())[-300:]}); complete or fix the dataset"
            ) from error

    def _inside(self, number: int, box: Box) -> npt.NDArray[np.bool_]:
        """Cells of a window whose centres lie in the footprint of a row.

        Footprints are slanted where two datasets of different CRSs intersect. A cell from such an edge, the
        fill beyond it enters the interpolation.
        """
        footprint = self.dataset.index.geometry.iloc[number]
        if footprint.equals(footprint.envelope):
            return np.ones(box.shape, dtype=bool)
        import shapely

        centres = self.grid(number).crop(box).to_world(np.indices(box.shape).reshape(2, -1).T)
        inner = footprint.buffer(-max(self.dataset.res))
        return np.asarray(shapely.contains_xy(inner, centres)).reshape(box.shape)

    def _cells(self, sample: dict[str, object], valid: npt.NDArray[np.bool_] | None = None) -> Cells:
        """Image, label and validity of a sample."""
        array = self._image(sample)
        image, dates = array.reshape(-1, *array.shape[-2:]), len(array) if array.ndim == 4 else 0
        label = self._mask(sample[self.mask_key], image.shape[1:]) if self.mask_key in sample else None
        return Cells(image, label, np.ones(image.shape[1:], dtype=bool) if valid is None else valid, dates)

    def _image(self, sample: dict[str, object]) -> npt.NDArray[np.float32]:
        """The channels of all image keys, ``[c, h, w]``, or ``[t, c, h, w]`` of a time series.

        Raises:
            InputError: A key that is missing, or arrays of different or other shapes.
        """
        missing = [key for key in self.image_keys if key not in sample]
        if missing:
            raise InputError(
                f"{self.recipe.class_path}: its samples have {sorted(sample)}, not {missing[0]!r}; name the image by "
                "data.image_key"
            )
        parts = [_with_channels(np.asarray(sample[key], dtype=np.float32)) for key in self.image_keys]
        kinds = {(part.ndim, part.shape[:-3], part.shape[-2:]) for part in parts}
        if len(kinds) > 1 or parts[0].ndim not in (3, 4):
            raise InputError(
                f"{self.recipe.class_path}: its {' and '.join(self.image_keys)} have shapes "
                f"{[p.shape for p in parts]}, expected [channels, rows, columns] (of time series with dates before "
                "them) of one size"
            )
        return np.concatenate(parts, axis=-3)

    def _mask(self, mask: object, shape: tuple[int, ...]) -> np.ndarray:
        """The class of each cell."""
        cells = np.asarray(mask)
        if cells.ndim == 3 and (len(cells) == 1 or self.mask_channel is not None):
            cells = cells[self.mask_channel or 0]
        if cells.shape != shape:
            raise InputError(
                f"{self.recipe.class_path}: its {self.mask_key} has shape {cells.shape}, expected {shape} with a class "
                "in each cell; data.mask_channel chooses one of several"
            )
        if cells.dtype.kind == "f" and not (cells == np.round(cells)).all():
            raise InputError(
                f"{self.recipe.class_path}: its {self.mask_key} has values between whole numbers, expected classes"
            )
        return cells.astype(np.int64, copy=False)

    def survey(self, number: int) -> dict[str, Any]:
        """Number of channels and dates, whether there is a label, and a digest of all cells, read in windows.

        Raises:
            InputError: It has no cells, or can't be read.
        """
        total, n_channels, dates, labelled = hashlib.sha256(), 0, 0, False
        for box in tiles(self.grid(number).shape, (256, 256)):
            cells = self.read(number, box)
            n_channels, dates = max(n_channels, len(cells.image)), max(dates, cells.dates)
            labelled = labelled or cells.label is not None
            for array in (cells.image, cells.label, cells.known):
                total.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        if not n_channels:
            raise InputError(f"{self.recipe.class_path}: its sample {number} has no cells; take its files out")
        return {"channels": n_channels, "dates": dates, "labelled": labelled, "sha256": total.hexdigest()}


def _with_channels(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An image with an axis of channels, also where there is one channel."""
    return image[None] if image.ndim == 2 else image


class SampleSource(Source):
    """The image or the label of one sample.

    Args:
        samples: The dataset.
        number: Number of the sample.
        part: Part to read.
        path: Named in messages.
        grid: Grid of the sample.
        n_channels: Number of image channels.
    """

    def __init__(
        self,
        samples: Samples,
        number: int,
        part: Literal["image", "label"],
        *,
        path: Path,
        grid: Grid,
        n_channels: int = 1,
    ) -> None:
        self.path, self.grid, self.n_channels = path, grid, n_channels
        self.dtype = np.dtype(np.float32 if part == "image" else np.int64)
        self._samples, self._number, self._part = samples, number, part

    def _read(self, box: Box, channels: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
        cells = self._samples.read(self._number, box)
        if not cells.known.any():
            return np.zeros((len(channels), *box.shape), dtype=self.dtype)
        if self._part == "image":
            return cells.image[list(channels)]
        if cells.label is None:
            raise InputError(
                f"{self.path}: its sample has lost its mask; delete the file to have the dataset read anew"
            )
        return cells.label[None]

    def _valid(
        self, box: Box, channels: tuple[int, ...], cells: Shaped[np.ndarray, "..."]
    ) -> npt.NDArray[np.bool_] | None:
        return self._samples.read(self._number, box).known


def _lock() -> threading.RLock:
    return _locks.setdefault(os.getpid(), threading.RLock())


@lru_cache(maxsize=8)
def _built(recipe: Recipe, state: tuple[int, int]) -> Any:
    return recipe.build()


@lru_cache(maxsize=8)
def _rows(recipe: Recipe, state: tuple[int, int]) -> list[Any]:
    from torchgeo.samplers import PreChippedGeoSampler

    return list(PreChippedGeoSampler(_built(recipe, state)))


@lru_cache(maxsize=2)
def _whole(samples: Samples, number: int, state: tuple[int, int]) -> Cells:
    with quiet(), samples._reporting(number):
        sample = samples.dataset[number]
    return samples._cells(sample)


@lru_cache(maxsize=2)
def _window(samples: Samples, number: int, box: Box, state: tuple[int, int]) -> Cells:
    return samples.query(number, box)
