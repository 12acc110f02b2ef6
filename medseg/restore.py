"""From a checkpoint back to the predictor that it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from medseg import checkpoint, formats
from medseg.build import network, tiling
from medseg.data.cases import Case, read_case
from medseg.device import device_of, precision_of, short_precision
from medseg.geometry.grid import Grid
from medseg.inference.predictor import Predictor
from medseg.planning.plan import Plan
from medseg.sample import DataSpec, Sample


def predictor(
    path: Path | str,
    *,
    device: str = "auto",
    flips: bool | None = None,
    overlap: float | None = None,
    data: Mapping[str, Any] | None = None,
) -> Predictor:
    """The predictor that a checkpoint holds; command line, notebook and training build this same object.

    Args:
        path: A checkpoint of medseg.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        flips: Average over mirrored images; None does as the training's configuration says.
        overlap: Least share of a window that its neighbour covers; None likewise.
        data: ``nonfinite`` and ``grid_tolerance`` for the new images, instead of the training's.

    Raises:
        BadInput: Not a checkpoint of medseg, or no such device.
    """
    loaded = checkpoint.read(path)
    stored = loaded["medseg"]
    cfg = OmegaConf.create(stored["config"])
    if flips is not None:
        cfg.inference.flips = flips
    if overlap is not None:
        cfg.inference.overlap = overlap
    spec, planned = DataSpec.from_dict(stored["spec"]), Plan.from_dict(stored["plan"])
    place = device_of(device)
    kind = torch.device(place).type
    trained = short_precision(cfg.trainer.precision)
    able = short_precision(precision_of(kind))
    net = network(cfg.model, planned, spec)
    net.load_state_dict(checkpoint.network_state(loaded))
    return Predictor(
        net,
        prepare=planned.preprocess,
        tiling=tiling(cfg, planned, spec, trained if trained == able else "fp32"),
        spec=spec,
        read=partial(_read_image, spec=spec, data=stored["config"]["data"] | dict(data or {})),
        write=_write_like,
        device=place,
    )


def _read_image(files: Sequence[Path], *, spec: DataSpec, data: dict[str, Any]) -> Sample:
    case = Case(formats.stem(files[0]), tuple(files), None, "")
    return read_case(case, spec, nonfinite=data["nonfinite"], tolerance=data["grid_tolerance"])


def _write_like(target: Path, array: np.ndarray, grid: Grid, like: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    formats.write(target, array, grid, like=like)
