"""Cells of a file as they are stored, and the same file written again with others; for scripts that damage data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import rasterio
from PIL import Image

from medseg import formats
from medseg.data.case import Case
from medseg.labels import LabelTable

NIFTI, TIFF = (".nii", ".nii.gz"), (".tif", ".tiff")


class DoesNotApply(Exception):
    """A kind of damage that files of this kind can't have."""


@dataclass(frozen=True)
class Patient:
    """A case of the copy that is damaged, with another one, and what they are labelled with."""

    case: Case
    other: Case
    table: LabelTable
    rng: np.random.Generator

    @property
    def image(self) -> Path:
        """Its first image file."""
        return self.case.images[0]

    @property
    def label(self) -> Path:
        """Its label file."""
        if self.case.label is None or formats.suffix(self.case.label) in formats.VECTORS:
            raise DoesNotApply("no label file")
        return self.case.label


def cells(path: Path) -> np.ndarray:
    """Stored values ``[c, *s]``; palettes as indices."""
    kind = formats.suffix(path)
    if kind in NIFTI:
        array = np.asanyarray(nib.load(path).dataobj)
        return np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    if kind in TIFF:
        with rasterio.open(path) as scene:
            return scene.read()
    if path.is_dir():
        raise DoesNotApply("a DICOM folder")
    array = np.array(Image.open(path))
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]


def store(path: Path, array: np.ndarray, *, affine: np.ndarray | None = None, **profile: Any) -> None:
    """Write values in the format, and with the geometry, that the file has."""
    kind = formats.suffix(path)
    array = array.astype(np.uint8) if array.dtype == bool else array
    if kind in NIFTI:
        header = nib.load(path)
        moved = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
        nib.save(nib.Nifti1Image(moved, header.affine if affine is None else affine), path)
        return
    if kind in TIFF:
        with rasterio.open(path) as scene:
            kept = {**scene.profile, "height": array.shape[1], "width": array.shape[2], "count": len(array)}
            names = scene.descriptions
        kept |= {"dtype": array.dtype.name, "predictor": 1} | profile
        kept["nodata"] = None if kept.get("nodata") is not None and array.dtype.kind in "iu" else kept.get("nodata")
        path.unlink()
        with rasterio.open(path, "w", **kept) as scene:
            scene.write(array)
            for band, name in enumerate(names[: len(array)], start=1):
                scene.set_band_description(band, name or "")
        return
    if array.dtype.kind == "f":
        raise DoesNotApply("pictures hold no floats")
    wide = np.uint16 if array.max() > 255 else np.uint8
    Image.fromarray(np.moveaxis(array, 0, -1).squeeze().astype(wide)).save(path, format="PNG")


def affine_of(path: Path) -> np.ndarray:
    if formats.suffix(path) not in NIFTI:
        raise DoesNotApply("volumes only")
    return np.array(nib.load(path).affine)


def floats(p: Patient) -> np.ndarray:
    if formats.suffix(p.image) in formats.suffixes("image"):
        raise DoesNotApply("pictures hold no floats")
    return cells(p.image).astype(np.float32)


def several(p: Patient) -> list[Path]:
    """Files of channels, or the one file if it holds several."""
    if len(p.case.images) > 1 and not p.case.days:
        return list(p.case.images)
    if p.case.days or len(cells(p.image)) < 2:
        raise DoesNotApply("one channel")
    return [p.image]
