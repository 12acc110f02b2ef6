"""A segmentation set of GEO-Bench 1.0 (m-cashew-plant and others) for data=rasters: GeoTIFF instead of HDF5.

medseg-prepare geobench FOLDER TARGET [--partition 0.10x_train]

Reads default_partition.json, or another partition of the set, and of each sample NAME.hdf5 the bands, arrays of their
own names such as "04 - Red_2019-11-04", and the array label. Writes images/train_NAME.tif (bands B1 to B12, or as they
are called) and masks/train_NAME.tif, the same of valid_NAME (split.val_cases=[valid_*]), test_images and test_masks.
Pickled attributes, which hold dates and places, are not read. HDF5 is read by GDAL.
"""

from __future__ import annotations

import json
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Shaped
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from medseg import formats
from medseg.data.case import refuse
from medseg.data.conversion.preparation import Choice, PublishedDataset, Work, expected
from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, Grid

PARTITIONS = ("default", *(f"{share}x_train" for share in ("0.01", "0.02", "0.05", "0.10", "0.20", "0.50", "1.00")))
PARTS = ("train", "valid", "test")
_DATE = re.compile(r"_\d{4}-\d{2}-\d{2}.*")
_NUMBERED = re.compile(r"(\d{1,2}A?)_-_(?!V[VH]\b)\w.*")


def plan(source: Path, *, partition: str) -> list[Work]:
    """Work of the dataset, a sample each; see the module."""
    path = expected(source / f"{partition}_partition.json", "GEO-Bench's lists of samples")
    samples = [(part, name) for part, names in _partition(path).items() for name in names]
    lacking = [name for _, name in samples if not (source / f"{name}.hdf5").is_file()]
    refuse(lacking, f"sample(s) of {path.name} without an HDF5 file in {source}", "fetch the whole set")
    return [_work(part, name, source / f"{name}.hdf5") for part, name in samples]


def _partition(path: Path) -> dict[str, list[str]]:
    """Names of the samples of each part."""
    try:
        parts: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON ({error}); fetch it anew") from error
    if not isinstance(parts, dict) or set(parts) != set(PARTS) or not all(map(_are_names, parts.values())):
        raise InputError(f"{path}: expected lists of samples for {', '.join(PARTS)}; fetch it anew")
    return {part: parts[part] for part in PARTS}


def _are_names(value: object) -> bool:
    """Whether a value is a list of names of files."""
    return isinstance(value, list) and all(isinstance(name, str) and Path(name).name == name for name in value)


def _work(part: str, name: str, sample: Path) -> Work:
    prefix = "test_" if part == "test" else ""
    files = (f"{prefix}images/{part}_{name}.tif", f"{prefix}masks/{part}_{name}.tif")
    return Work(f"{part}_{name}", files, partial(_write, sample))


def _write(sample: Path, image_draft: Path, mask_draft: Path) -> None:
    arrays = _arrays(sample)
    labels = [array for name, array in arrays.items() if name.startswith("label")]
    bands = {name: array for name, array in arrays.items() if not name.startswith("label")}
    if len(labels) != 1 or not bands:
        raise InputError(f"{sample}: holds {list(arrays)}, expected bands and one label; is it a segmentation set?")
    shapes = {array.shape for array in (*labels, *bands.values())}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise InputError(f"{sample}: its arrays have the shapes {sorted(shapes)}, expected one of two axes")
    grid = Grid(labels[0].shape, np.eye(3), PIXEL)
    formats.write_image(image_draft, np.stack(list(bands.values())), grid, names=list(bands))
    formats.write(mask_draft, labels[0], grid)


def _arrays(sample: Path) -> dict[str, Shaped[np.ndarray, " *s"]]:
    """The arrays of a sample by name, sorted as in the file: by their names.

    Raises:
        InputError: A damaged file, or a band of several dates.
    """
    arrays: dict[str, Shaped[np.ndarray, " *s"]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(sample) as opened:
                parts = sorted(opened.subdatasets)
            for part in parts:
                name = band_name(part.rpartition("//")[2])
                if name in arrays:
                    raise InputError(f"{sample}: has band {name} of several dates, expected one; it is a time series")
                with rasterio.open(part) as array:
                    arrays[name] = array.read(1)
    except RasterioError as error:
        raise InputError(f"{sample}: can't be read as HDF5 ({error}); fetch the file anew") from error
    return arrays


def band_name(array: str) -> str:
    """Name of a band, of that of its array as GDAL gives it: without date and words after a number.

    Example:
        >>> [band_name(n) for n in ("04_-_Red_2019-11-04", "08A_-_Vegetation_Red_Edge", "Red_2015-01-01", "label")]
        ['B4', 'B8A', 'Red', 'label']
    """
    name = _DATE.sub("", array)
    numbered = _NUMBERED.fullmatch(name)
    return f"B{numbered[1].lstrip('0')}" if numbered else name


DATASET = PublishedDataset(
    "GEO-Bench", plan, {"partition": Choice(PARTITIONS, "default", "which samples train, as the set lists them")}
)
