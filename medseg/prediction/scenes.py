"""Label files of new images: scenes of any size window by window, others in one piece."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from medseg import formats
from medseg.data.preprocessing.normalise import ImageStats
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import image_stats, tiles
from medseg.data.reading.open_case import CaseReader
from medseg.formats.sink import RasterSink, class_nodata
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.inference.dates import at_dates
from medseg.inference.predictor import Predictor
from medseg.inference.stream import PROBABILITY_STEPS, ReadReady, stream
from medseg.labels import LabelTable


def streams(target: Path, prepare: Preprocess) -> bool:
    """Whether a label file can be predicted window by window: a GeoTIFF, without resampling of the whole image."""
    return formats.suffix(target) in formats.GEOTIFF and prepare.spacing is None


def stream_scene(
    predictor: Predictor[Preprocess],
    opened: CaseReader,
    target: Path,
    like: Path,
    *,
    key: str,
    probabilities: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> None:
    """Predict a scene window by window into a Cloud-Optimised GeoTIFF, from where a killed run stopped.

    Args:
        predictor: Predictor of arrays.
        opened: The scene.
        target: ``scene.tif``, for which ``streams`` holds; in a folder next to it ``probabilities/scene.tif``.
        like: The file whose CRS and transform are kept.
        key: Digest of the checkpoint.
        probabilities: Also write a band of probabilities for each output of the network.
        on_rows: Called with the number of rows that are done.
    """
    prepare = predictor.prepare
    target.parent.mkdir(parents=True, exist_ok=True)
    labels, grid, tiling = predictor.spec.labels, opened.grid, predictor.tiling
    nodata = class_nodata(labels)
    settings = {"checkpoint": key, "files": _read_from(opened), "tiling": vars(tiling), "prepare": prepare.to_dict()}
    name = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    same = like if formats.suffix(like) in formats.GEOTIFF and not formats.open(like).grid.offset_from(grid) else None
    dtype = wide_enough(labels, nodata)
    with ExitStack() as sinks:
        sink = sinks.enter_context(RasterSink(target, grid, dtype=dtype, key=name, nodata=nodata, like=same))
        prob = None
        if probabilities:
            (target.parent / "probabilities").mkdir(exist_ok=True)
            beside, bands = target.parent / "probabilities" / target.name, labels.n_outputs
            prob = sinks.enter_context(RasterSink(beside, grid, dtype="uint8", key=name, n_bands=bands, like=same))
        ready = ready_windows(opened, prepare, tiling.window)
        corner = opened.read(Box.at([0] * grid.ndim, [1] * grid.ndim))  # of a series, its dates are those of all cells
        network = at_dates(predictor.network, corner)
        stream(ready, grid.shape, tiling, network, labels, sink, probabilities=prob, on_rows=on_rows)
        if prob is not None:
            names = [r.name for r in labels.regions] or list(labels.names)
            prob.finish(names=names, scale=1 / PROBABILITY_STEPS)
        sink.finish(labels=labels)


def ready_windows(opened: CaseReader, prepare: Preprocess, patch: tuple[int, ...]) -> ReadReady:
    """Windows of a scene, ready for the network; statistics of the whole scene are taken first, if it needs them."""
    stats: list[ImageStats] | None = None
    if prepare.per_image:
        stats = image_stats(opened, tiles(opened.grid.shape, patch, opened.spec.dates))

    def read(box: Box) -> tuple[Float[np.ndarray, "c *w"], Bool[np.ndarray, " *w"]]:
        sample = prepare.window(opened.read(box), stats)
        return sample.planes, sample.valid

    return read


def write_like(
    target: Path,
    array: Shaped[np.ndarray, " *s"],
    valid: Bool[np.ndarray, " *s"],
    grid: Grid,
    like: Path,
    *,
    labels: LabelTable,
) -> None:
    """Write a label array in one piece, with the header of ``like``; in a GeoTIFF, invalid cells are nodata."""
    target.parent.mkdir(parents=True, exist_ok=True)
    nodata = None
    if formats.suffix(target) in formats.GEOTIFF and not valid.all():
        nodata = class_nodata(labels)
        array = np.where(valid, array, nodata).astype(wide_enough(labels, nodata))
    formats.write(target, array, grid, like=like, labels=labels, nodata=nodata)


def wide_enough(labels: LabelTable, nodata: int) -> np.dtype[Any]:
    """The type of saved values, or a wider one where nodata does not fit into it."""
    return np.promote_types(labels.saved_dtype, np.min_scalar_type(nodata))


def _read_from(opened: CaseReader) -> list[object]:
    """Names, sizes and times of the files of a scene, and how they are read."""
    stats = [(path, path.stat()) for path in opened.case.files]
    return [opened.reading.to_dict(), *([str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]
