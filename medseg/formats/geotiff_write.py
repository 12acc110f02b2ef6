"""Writing of GeoTIFF files: tiled, compressed, with palette and class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from jaxtyping import Shaped

from medseg.formats.georeference import crs_of, transform_of, whole_cells
from medseg.formats.geotiff import GeoTiffSource, unreferenced_unsaid
from medseg.geometry.grid import Grid
from medseg.labels import LabelTable


def write(
    path: Path,
    image: Shaped[np.ndarray, "c h w"],
    grid: Grid,
    *,
    like: Path | None = None,
    labels: LabelTable | None = None,
    nodata: float | None = None,
    names: Sequence[str] = (),
    scale: float | None = None,
) -> None:
    """Write a tiled, compressed GeoTIFF file.

    Args:
        path: Target.
        image: Bands of the image.
        grid: Grid of two axes, with CRS and transform.
        like: File of the same grid whose CRS and transform are copied bit for bit.
        labels: Table of the values, for palette and class names; see ``explain``.
        nodata: Value for the nodata tag.
        names: Descriptions of the bands.
        scale: Tag that turns stored values into real ones, such as 1/254 for probabilities.

    Raises:
        ValueError: ``like`` has another grid.
    """
    settings = profile(grid, image.dtype, len(image), nodata=nodata, like=like, smooth=labels is None)
    with unreferenced_unsaid(), rasterio.open(path, "w", **settings) as scene:
        if labels is not None:
            explain(scene, labels)
        scene.write(image)
        if scale is not None:
            scene.scales = (scale,) * len(image)
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
        grid: Grid of two axes.
        dtype: Type of the cells.
        n_bands: Number of bands; none of them is tagged as alpha.
        nodata: Value for the nodata tag.
        like: File of the same grid whose CRS and transform are copied bit for bit.
        smooth: Whether cells are measurements, whose differences compress better than values.

    Raises:
        ValueError: ``like`` has another grid.
    """
    transform, crs = transform_of(grid), crs_of(grid.frame)
    if like is not None:
        model_transform, crs = _georeference(like, grid)
        transform = None if transform is None else model_transform
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


def _georeference(path: Path, grid: Grid) -> tuple[Any, Any]:
    """Transform and CRS of a file of the same grid, bit for bit.

    Raises:
        ValueError: It has another grid.
    """
    model = GeoTiffSource(path)
    if whole_cells(grid, model.grid) != (0, 0) or grid.shape != model.grid.shape:
        raise ValueError(f"{path} has another grid than the one to be written, so its transform would be false")
    with model.reading() as scene:
        return scene.transform, scene.crs


def explain(scene: Any, labels: LabelTable) -> None:
    """Write the meaning of label values into a file that is being written.

    The tag ``CLASS_NAMES`` of the file is a JSON object from saved value to class name, as in
    ``{"0": "background", "1": "burned"}``. Files of one uint8 band get the classes' colours as palette.

    Args:
        scene: Rasterio's dataset, before any cell is written.
        labels: The label table of the values.
    """
    scene.update_tags(CLASS_NAMES=json.dumps({str(c.saved): c.name for c in labels.classes}))
    if scene.count == 1 and scene.dtypes[0] == "uint8":
        scene.write_colormap(1, {c.saved: (*c.colour, 255) for c in labels.classes})
