"""From a checkpoint back to the predictor that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medseg import checkpoint, formats
from medseg.checkpoint import Checkpoint
from medseg.data.case import Case
from medseg.data.layout.dates import dated
from medseg.data.layout.patterns import FileNames
from medseg.data.reading.open_case import OpenCase
from medseg.data.reading.options import Reading
from medseg.errors import InputError
from medseg.factory import trust as trusted
from medseg.factory.stored import Held, rebuilt
from medseg.factory.tiling import build_tiling
from medseg.formats.mosaic import Mosaic
from medseg.formats.source import Source
from medseg.inference.predictor import Predictor
from medseg.prediction.scenes import stream_scene, write_like
from medseg.runtime.device import device_of, precision_of, short_precision
from medseg.sample import DataSpec


def predictor(
    path: Path | str,
    *,
    device: str = "auto",
    flips: bool | None = None,
    overlap: float | None = None,
    data: Mapping[str, Any] | None = None,
    probabilities: bool = False,
    mosaic: bool = False,
    series: str | None = None,
    trust: Sequence[str] | str = (),
    loaded: Checkpoint | None = None,
) -> Predictor:
    """The predictor that a checkpoint holds; command line, notebook and training build this same object.

    Whatever the checkpoint holds, nothing of it is executed: networks are built from medseg's own classes, and from
    those of trusted modules.

    Args:
        path: A checkpoint of medseg.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        flips: Average over mirrored images; None does as the training's configuration says.
        overlap: Least share of a window that its neighbour covers; None likewise.
        data: Fields of ``Reading`` for the new images, instead of the training's.
        probabilities: Of scenes, write a file of probabilities beside each label file.
        mosaic: Take the files of a case as tiles of one scene, not as its channels.
        series: SeriesInstanceUID to take from folders of DICOM slices that hold several series.
        trust: Modules of the user, whose classes the checkpoint may name; see ``trust.check``.
        loaded: What ``checkpoint.read`` gave for this path, if it was read already.

    Raises:
        InputError: Not a checkpoint of medseg, one that is damaged or names other classes, or no such device.
    """
    loaded = checkpoint.read(path) if loaded is None else loaded
    if not loaded.metadata.segments:
        raise InputError(
            f"checkpoint={path}: its network was pretrained without labels and segments nothing; fine-tune it by "
            f"medseg-train ... model.encoder.weights={path} (or weights={path} for a network without an encoder)"
        )
    trusted.check(loaded.metadata.config, f"checkpoint={path}", trust)
    with checkpoint.damaged(path):
        held = Held.of(loaded.metadata)
    cfg = held.config
    if flips is not None:
        cfg.inference.flips = flips
    if overlap is not None:
        cfg.inference.overlap = overlap
    place = device_of(device)
    trained = short_precision(cfg.trainer.precision)
    able = short_precision(precision_of(torch.device(place).type))
    reading = Reading.of(**dict(held.data) | dict(data or {}))
    with checkpoint.damaged(path):
        net = rebuilt(held, loaded.network_state)
        tiles = build_tiling(cfg, held.plan, held.spec, trained if trained == able else "fp32")
    return Predictor(
        net,
        prepare=held.plan.preprocess,
        tiling=tiles,
        spec=held.spec,
        open=partial(open_image, spec=held.spec, reading=reading, mosaic=mosaic, series=series),
        write=partial(write_like, labels=held.spec.labels),
        stream=partial(stream_scene, key=loaded.digest, probabilities=probabilities),
        device=place,
    )


@dataclass(frozen=True)
class Layout:
    """How a checkpoint's training found and read its files.

    Attributes:
        folders: Sub-folders that images came from; empty where the dataset names none.
        reading: How files are read.
        names: Patterns that found the files instead of folders; None where there were none.
        digest: Of the checkpoint, see ``Checkpoint.digest``.
    """

    folders: tuple[str, ...]
    reading: Reading
    names: FileNames | None
    digest: str


def layout(path: Path | str, data: Mapping[str, Any] | None = None, *, loaded: Checkpoint | None = None) -> Layout:
    """The layout that a checkpoint holds, with other fields of ``Reading`` for new files.

    Args:
        path: A checkpoint of medseg.
        data: Fields of ``Reading``.
        loaded: What ``checkpoint.read`` gave for this path, if it was read already.

    Raises:
        InputError: Not a checkpoint of medseg, or one that is damaged.
    """
    loaded = checkpoint.read(path) if loaded is None else loaded
    with checkpoint.damaged(path):
        held = Held.of(loaded.metadata)
    return Layout(held.folders, Reading.of(**dict(held.data) | dict(data or {})), held.names, loaded.digest)


def open_image(
    files: Sequence[Path], *, spec: DataSpec, reading: Reading, mosaic: bool = False, series: str | None = None
) -> OpenCase:
    """The files of one new image, with the settings of the training; with ``mosaic``, tiles of one scene.

    Of a time series, the files of each date in any order; or with ``reading.dates.in_file`` files of all dates.
    """
    sources: list[Source] | None = [Mosaic([formats.open(path) for path in files])] if mosaic else None
    if series is not None:
        sources = [formats.open(path, series=series) for path in files]
    case = Case(formats.stem(files[0]), tuple(files), None, "")
    if spec.dates:
        if reading.dates is None:
            raise InputError(
                f"{files[0]}: the network takes time series of up to {spec.dates} dates; say how they lie in files, as "
                "in data.dates={in_file: 12}, or data.dates={} for case_20200131.tif"
            )
        case = dated(case, reading.dates)
    return OpenCase(case, spec, reading, sources=sources)
