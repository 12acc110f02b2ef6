"""From checkpoints back to the predictor that they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medseg import checkpoint
from medseg.checkpoint import Checkpoint
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.factory import trust as trusted
from medseg.factory.schemes import with_schemes
from medseg.factory.stored import Held, rebuilt
from medseg.factory.tiling import build_tiling
from medseg.inference.cascade import CascadedPredictor
from medseg.inference.ensemble import Ensemble
from medseg.inference.postprocess import PostProcess
from medseg.inference.predictor import CasePredictor, Predictor
from medseg.prediction.bands import probabilities as bands_of_probabilities
from medseg.prediction.bands import uncertainty as bands_of_uncertainty
from medseg.prediction.checkpoints import Choice, Loaded, read_checkpoints
from medseg.prediction.file_predictor import FilePredictor, Layout
from medseg.runtime.device import device_of, precision_of, short_precision


def predictor(
    path: Path | str | Checkpoint | Loaded | Sequence[Path | str],
    *,
    device: str = "auto",
    flips: bool | None = None,
    overlap: float | None = None,
    data: Mapping[str, Any] | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
    mosaic: bool = False,
    series: str | None = None,
    trust: Sequence[str] | str = (),
) -> FilePredictor:
    """The predictor that a checkpoint holds, or several together; command line, notebook and training build this one.

    Whatever the checkpoint holds, nothing of it is executed: networks are built from medseg's own classes, and from
    those of trusted modules.

    Args:
        path: A checkpoint of medseg; the folder of a run or of a sweep; the folder or archive of an export;
            ``selection.yaml``; or a list of these. Several are an ``Ensemble``. Or what was read already.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` and so on.
        flips: Average over mirrored images; None does as the selection or the training's configuration says.
        overlap: Least share of a window that its neighbour covers; None does as the training's configuration says.
        data: Fields of ``ReadOptions`` for the new images, instead of the training's.
        probabilities: Write a file of probabilities in addition to each label file.
        uncertainty: Write a file of entropy, and of several networks disagreement, in addition to each label file.
        mosaic: Take the files of a case as tiles of one scene, not as its channels.
        series: SeriesInstanceUID to take from folders of DICOM slices that hold several series.
        trust: Modules of the user, whose classes the checkpoint may name; see ``trust.check``.

    Raises:
        InputError: Not a checkpoint of medseg, one that is damaged or names other classes, no such device, or
            checkpoints that do not fit together.
    """
    read = _loaded(path)
    choice, loaded = read.choice, read.checkpoints
    flips = choice.flips if flips is None else flips
    held = [_held(one, trust) for one in loaded]
    reading = [ReadOptions.from_config(**dict(one.data) | dict(data or {})) for one in held]
    _check_reading(loaded, reading)
    settings: Any = {"device": device_of(device), "flips": flips, "overlap": overlap, "trust": trust}
    members = [_member(one, own, **settings) for one, own in zip(loaded, held, strict=True)]
    labels = members[0].spec.labels
    arrays: CasePredictor[Preprocess] = members[0] if len(members) == 1 else Ensemble(members)
    arrays.postprocess = PostProcess.from_list(choice.postprocessing, labels) if choice.postprocessing else None
    temperature = loaded[0].metadata.temperature if len(loaded) == 1 else 1.0
    bands = [bands_of_probabilities(labels, temperature)] if probabilities else []
    bands += [bands_of_uncertainty(len(members), temperature)] if uncertainty else []
    return FilePredictor(
        arrays,
        Layout(held[0].folders, reading[0], held[0].names),
        digest=_digest([one.digest for one in loaded], choice.postprocessing),
        step=loaded[0].step,
        temperature=temperature,
        bands=bands,
        mosaic=mosaic,
        series=series,
    )


def _loaded(path: Path | str | Checkpoint | Loaded | Sequence[Path | str]) -> Loaded:
    """What was named, read if it was not."""
    if isinstance(path, Loaded):
        return path
    if isinstance(path, Checkpoint):
        return Loaded(Choice((path.path,), (None,)), (path,))
    return read_checkpoints(path)


def _held(loaded: Checkpoint, trust: Sequence[str] | str) -> Held:
    """What a checkpoint holds, whose classes may be built."""
    path = loaded.path
    if not loaded.metadata.segments:
        raise InputError(
            f"checkpoint={path}: its network was pretrained without labels and segments nothing; fine-tune it by "
            f"medseg-train ... model.encoder.weights={path} (or weights={path} for a network without an encoder)"
        )
    trusted.check(loaded.metadata.config, f"checkpoint={path}", trust)
    with checkpoint.damaged(path):
        held = Held.of(loaded.metadata)
    return replace(held, plan=with_schemes(held.plan, f"checkpoint={path}", trusted.names(trust)))


def _member(
    loaded: Checkpoint,
    held: Held,
    *,
    device: str,
    flips: bool | None,
    overlap: float | None,
    trust: Sequence[str] | str,
) -> Predictor[Preprocess]:
    """The predictor of arrays of one checkpoint, which may hold both networks of a cascade."""
    cfg = held.config
    if flips is not None:
        cfg.inference.flips = flips
    if overlap is not None:
        cfg.inference.overlap = overlap
    trained = short_precision(cfg.trainer.precision)
    able = short_precision(precision_of(torch.device(device).type))
    with checkpoint.damaged(loaded.path):
        net = rebuilt(held, loaded.network_state)
        tiles = build_tiling(cfg, held.plan, held.spec, trained if trained == able else "fp32")
    parts: Any = {"prepare": held.plan.preprocess, "tiling": tiles, "spec": held.spec.of_files, "device": device}
    if loaded.first_stage is None:
        return Predictor(net, **parts)
    before = _held(loaded.first_stage, trust)
    first = _member(loaded.first_stage, before, device=device, flips=flips, overlap=overlap, trust=trust)
    return CascadedPredictor(net, first=first, **parts)


def _check_reading(loaded: Sequence[Checkpoint], reading: Sequence[ReadOptions]) -> None:
    """Refuse members that read the files of a case in another way than the first."""
    first = reading[0].to_dict()
    for one, own in zip(loaded, reading, strict=True):
        differing = [key for key, value in own.to_dict().items() if first.get(key) != value]
        if differing:
            key = differing[0]
            values = [json.loads(json.dumps(options[key])) for options in (own.to_dict(), first)]
            raise InputError(
                f"checkpoint={one.path}: reads files with data.{key}={values[0]}, the first member with "
                f"{values[1]}; set data.{key} for all of them"
            )


def _digest(digests: Sequence[str], postprocessing: Sequence[Mapping[str, Any]]) -> str:
    """What decides predictions: of one checkpoint its own digest."""
    if len(digests) == 1 and not postprocessing:
        return digests[0]
    parts = [sorted(digests), [dict(step) for step in postprocessing]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
