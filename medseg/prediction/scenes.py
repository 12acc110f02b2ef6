"""Label files of new images: scenes of any size window by window, others in one piece."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from medseg import formats
from medseg.data.preprocessing.normalise import ImageStats
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.preprocessing.windows import image_stats, tiles
from medseg.data.reading.open_case import CaseReader
from medseg.formats.companions import companions
from medseg.formats.sink import RasterSink, class_nodata
from medseg.geometry.box import Box
from medseg.geometry.grid import Grid
from medseg.inference.case_network import mean_case_prob
from medseg.inference.predictor import CasePredictor, Predictor
from medseg.inference.stream import ExtraBands, ReadReady, SceneNetwork, stream
from medseg.labels import LabelTable
from medseg.prediction.bands import NODATA, SCALE, Bands
from medseg.sample import Sample

OnWindow = Callable[[Box, Sample], None]
"""Takes a window of a scene and its raw cells."""


def streams(target: Path, prepare: Preprocess) -> bool:
    """Whether a label file can be predicted window by window: a GeoTIFF, without resampling of the whole image."""
    return formats.suffix(target) in formats.GEOTIFF and prepare.spacing is None


def stream_scene(
    predictor: CasePredictor[Preprocess],
    opened: Sequence[CaseReader],
    target: Path,
    like: Path,
    *,
    key: str,
    bands: Sequence[Bands] = (),
    on_rows: Callable[[int], None] | None = None,
) -> Float[np.ndarray, " m"] | None:
    """Predict a scene window by window into a Cloud-Optimised GeoTIFF, from where a killed run stopped.

    A scene whose class is predicted too begins anew, as that takes every window.

    Args:
        predictor: Predictor of arrays.
        opened: The scene, once for each member of the predictor.
        target: ``scene.tif``, for which ``streams`` holds; in folders next to it the files of ``bands``.
        like: The file whose CRS and transform are kept.
        key: Digest of the checkpoint.
        bands: Written in addition.
        on_rows: Called with the number of rows that are done.

    Returns:
        Probability of each class of the scene; None if no network classifies cases.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    labels, grid = predictor.spec.labels, opened[0].grid
    nodata = class_nodata(labels)
    dtype = wide_enough(labels, nodata)
    settings = [_settings(*pair) for pair in zip(predictor.members, opened, strict=True)]
    name = hashlib.sha256(json.dumps([key, settings], sort_keys=True, default=str).encode()).hexdigest()
    same = like if formats.suffix(like) in formats.GEOTIFF and not formats.open(like).grid.offset_from(grid) else None
    with ExitStack() as sinks:
        sink = sinks.enter_context(RasterSink(target, grid, dtype=dtype, key=name, nodata=nodata, like=same))
        extra = []
        for one in bands:
            path = one.path(target)
            path.parent.mkdir(exist_ok=True)
            n_bands = len(one.names)
            further = RasterSink(path, grid, dtype="uint8", key=name, n_bands=n_bands, nodata=NODATA, like=same)
            extra.append((one, sinks.enter_context(further)))
        members = [scene_network(*pair) for pair in zip(predictor.members, opened, strict=True)]
        bands_of = [ExtraBands(one.of, further) for one, further in extra]
        stream(members, grid.shape, labels, sink, extra=bands_of, on_rows=on_rows)
        for one, further in extra:
            further.finish(names=one.names, scale=SCALE)
        sink.finish(labels=labels)
    return mean_case_prob([member.case_logits or [] for member in members])


def _settings(member: Predictor[Preprocess], opened: CaseReader) -> dict[str, object]:
    """What decides the rows of a scene besides the weights."""
    settings = {"files": _read_from(opened), "tiling": vars(member.tiling), "prepare": member.prepare.to_dict()}
    facts = opened.case.facts
    return settings | ({} if facts is None else {"facts": facts.encoded_by(member.spec.facts).tolist()})


def scene_network(member: Predictor[Preprocess], opened: CaseReader, on_window: OnWindow | None = None) -> SceneNetwork:
    """A network and the scene as it sees it.

    Args:
        member: The network with its preprocessing.
        opened: The scene.
        on_window: Called with each window as it was read, in the order of reading.
    """
    ready = ready_windows(opened, member.prepare, member.tiling.window, on_window)
    corner = opened.read(Box.at([0] * opened.grid.ndim, [1] * opened.grid.ndim))  # of a series, its dates are of all
    case_logits: list[Tensor] | None = [] if getattr(member.network, "classifies", False) else None
    return SceneNetwork(ready, member.tiling, member.network_at(corner, case_logits), case_logits)


def postprocess_scene(predictor: CasePredictor[Preprocess], target: Path) -> None:
    """Apply the post-processing of whole cases to a label file, which is held in memory for it."""
    labels, source = predictor.spec.labels, formats.open(target)
    saved, valid = source.read_valid()
    index = labels.to_index(np.where(valid, saved[0], labels.classes[0].saved))
    finished = labels.to_saved(predictor.finished(index, valid, source.grid))
    nodata = class_nodata(labels)
    dtype = wide_enough(labels, nodata)
    with RasterSink(target, source.grid, dtype=dtype, key="post-processing", nodata=nodata, like=target) as sink:
        sink.keep(0)
        sink.append(np.where(valid, finished, nodata).astype(dtype)[None])
        sink.finish(labels=labels)


def ready_windows(
    opened: CaseReader, prepare: Preprocess, patch: tuple[int, ...], on_window: OnWindow | None = None
) -> ReadReady:
    """Windows of a scene, ready for the network; statistics of the whole scene are taken first, if it needs them."""
    stats: list[ImageStats] | None = None
    if prepare.per_image:
        stats = image_stats(opened, tiles(opened.grid.shape, patch, opened.spec.dates))

    def read(box: Box) -> tuple[Float[np.ndarray, "c *w"], Bool[np.ndarray, " *w"]]:
        raw = opened.read(box)
        if on_window is not None:
            on_window(box, raw)
        sample = prepare.window(raw, stats)
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
    files = [file for path in opened.case.files for file in (path, *companions(path))]
    stats = [(path, path.stat()) for path in files]
    return [opened.reading.to_dict(), *([str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]
