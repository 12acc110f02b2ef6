"""From a checkpoint back to the predictor that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medseg import checkpoint
from medseg.checkpoint import Checkpoint
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory import trust as trusted
from medseg.factory.schemes import with_schemes
from medseg.factory.stored import Held, rebuilt
from medseg.factory.tiling import build_tiling
from medseg.inference.predictor import Predictor
from medseg.prediction.file_predictor import FilePredictor, Layout
from medseg.runtime.device import device_of, precision_of, short_precision


def predictor(
    path: Path | str | Checkpoint,
    *,
    device: str = "auto",
    flips: bool | None = None,
    overlap: float | None = None,
    data: Mapping[str, Any] | None = None,
    probabilities: bool = False,
    mosaic: bool = False,
    series: str | None = None,
    trust: Sequence[str] | str = (),
) -> FilePredictor:
    """The predictor that a checkpoint holds; command line, notebook and training build this same object.

    Whatever the checkpoint holds, nothing of it is executed: networks are built from medseg's own classes, and from
    those of trusted modules.

    Args:
        path: A checkpoint of medseg, or one that was read already.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        flips: Average over mirrored images; None does as the training's configuration says.
        overlap: Least share of a window that its neighbour covers; None does as the training's configuration says.
        data: Fields of ``ReadOptions`` for the new images, instead of the training's.
        probabilities: Of scenes, write a file of probabilities in addition to each label file.
        mosaic: Take the files of a case as tiles of one scene, not as its channels.
        series: SeriesInstanceUID to take from folders of DICOM slices that hold several series.
        trust: Modules of the user, whose classes the checkpoint may name; see ``trust.check``.

    Raises:
        InputError: Not a checkpoint of medseg, one that is damaged or names other classes, or no such device.
    """
    loaded = path if isinstance(path, Checkpoint) else checkpoint.read(path)
    path = loaded.path
    if not loaded.metadata.segments:
        raise InputError(
            f"checkpoint={path}: its network was pretrained without labels and segments nothing; fine-tune it by "
            f"medseg-train ... model.encoder.weights={path} (or weights={path} for a network without an encoder)"
        )
    trusted.check(loaded.metadata.config, f"checkpoint={path}", trust)
    with checkpoint.damaged(path):
        held = Held.of(loaded.metadata)
    held = replace(held, plan=with_schemes(held.plan, f"checkpoint={path}", trusted.names(trust)))
    cfg = held.config
    if flips is not None:
        cfg.inference.flips = flips
    if overlap is not None:
        cfg.inference.overlap = overlap
    place = device_of(device)
    trained = short_precision(cfg.trainer.precision)
    able = short_precision(precision_of(torch.device(place).type))
    reading = ReadOptions.from_config(**dict(held.data) | dict(data or {}))
    with checkpoint.damaged(path):
        net = rebuilt(held, loaded.network_state)
        tiles = build_tiling(cfg, held.plan, held.spec, trained if trained == able else "fp32")
    arrays = Predictor(net, prepare=held.plan.preprocess, tiling=tiles, spec=held.spec, device=place)
    return FilePredictor(
        arrays,
        Layout(held.folders, reading, held.names),
        digest=loaded.digest,
        step=loaded.step,
        probabilities=probabilities,
        mosaic=mosaic,
        series=series,
    )
