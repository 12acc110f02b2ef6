"""Landslide4Sense (14 channels of 128 x 128) for data=rasters: GeoTIFF instead of HDF5.

medseg-prepare landslide4sense FOLDER TARGET

Reads TrainData/img/image_1.h5 (img, [rows, columns, 14]) and TrainData/mask/mask_1.h5 (mask), ValidData and TestData
likewise; or images/train/image_1.h5 and annotations/train/mask_1.h5, and validation and test. Writes
images/train_1.tif (float32, bands named) and masks/train_1.tif, validation_1.tif likewise, and test_images and
test_masks. Images without masks, of which the competition had some, are left out. HDF5 is read by GDAL.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from medseg import formats
from medseg.data.case import refuse
from medseg.data.conversion.preparation import PublishedDataset, Work, expected
from medseg.errors import InputError
from medseg.geometry.grid import PIXEL, Grid

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "slope", "DEM")
LAYOUTS = (
    {"train": ("TrainData/img", "TrainData/mask"), "validation": ("ValidData/img", "ValidData/mask"),
     "test": ("TestData/img", "TestData/mask")},
    {part: (f"images/{part}", f"annotations/{part}") for part in ("train", "validation", "test")},
)  # fmt: skip


def plan(source: Path) -> list[Work]:
    """Work of the dataset, a case each; see the module."""
    layout = next((one for one in LAYOUTS if (source / one["train"][0]).is_dir()), LAYOUTS[0])
    expected(source / layout["train"][0], "the training images, in TrainData/img or images/train")
    expected(source / layout["train"][1], "the training masks, in TrainData/mask or annotations/train")
    found = []
    for part, (images, masks) in layout.items():
        if not (source / masks).is_dir():
            continue
        numbers = {folder: _number_files(source / folder) for folder in (images, masks)}
        lacking = sorted(set(numbers[images]) ^ set(numbers[masks]))
        refuse([f"{part} {n}" for n in lacking], "number(s) with only an image or only a mask", "complete the dataset")
        prefix = "test_" if part == "test" else ""
        for number in sorted(numbers[images]):
            names = (f"{prefix}images/{part}_{number}.tif", f"{prefix}masks/{part}_{number}.tif")
            found.append(_convert_case(names, numbers[images][number], numbers[masks][number]))
    return found


def _number_files(folder: Path) -> dict[int, Path]:
    """Files such as ``image_12.h5`` by number."""
    found = {
        int(m[1]): path for path in expected(folder, "images or masks").iterdir() if (m := NAME.fullmatch(path.name))
    }
    refuse([] if found else ["none"], f"HDF5 files in {folder}", "expected files such as image_1.h5 and mask_1.h5")
    return found


NAME = re.compile(r"(?:image|mask)_(\d+)\.h5")


def _convert_case(names: tuple[str, str], image: Path, mask: Path) -> Work:
    def write(image_draft: Path, mask_draft: Path) -> None:
        cells = np.moveaxis(_read_array(image, "img"), -1, 0)
        label = _read_array(mask, "mask")
        if len(cells) != len(BANDS) or label.shape != cells.shape[1:]:
            raise InputError(
                f"{image}: img has {len(cells)} channels of {cells.shape[1:]} cells and its mask {label.shape}; "
                "expected were 14 channels of as many cells; fetch both anew"
            )
        grid = Grid(label.shape, np.eye(3), PIXEL)
        formats.write_image(image_draft, cells.astype(np.float32), grid, names=BANDS)
        formats.write(mask_draft, label.astype(np.uint8), grid)

    return Work(Path(names[0]).stem, names, write)


def _read_array(path: Path, name: str) -> np.ndarray:
    """An array of an HDF5 file, its axes in the file's order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(f'HDF5:"{path}"://{name}') as opened:
                cells = opened.read()
    except RasterioError as error:
        raise InputError(f"{path}: no array {name!r} can be read ({error}); fetch the file anew") from error
    return cells[0] if len(cells) == 1 else cells


DATASET = PublishedDataset("Landslide4Sense", plan)
