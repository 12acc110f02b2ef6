"""predictor.json: all of a predictor but its weights, as plain data that ``runner.py`` reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg._version import __version__
from medseg.checkpoint import Checkpoint
from medseg.data.layout.image_groups import names_within
from medseg.data.preprocessing.normalise import Normalisation
from medseg.data.preprocessing.preprocess import Preprocess
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.export.public import without_paths
from medseg.export.runner import FORMAT
from medseg.formats.sink import class_nodata
from medseg.geometry.resample import ANISOTROPIC
from medseg.inference.cascade import CascadedPredictor
from medseg.inference.postprocess import OfStructures, Step
from medseg.inference.predictor import Predictor
from medseg.inference.sliding_window import LEAST_WEIGHT, SIGMA
from medseg.inference.tiling import Tiling
from medseg.labels import LabelTable
from medseg.prediction.file_predictor import FilePredictor
from medseg.sample import Channel
from medseg.sensors.formula import Formula

INVERSE = (
    "logits of the prepared cells are resampled linearly to the spacing of the file",
    "the class is decided there: one network by its logits, several by the mean of their probabilities",
    "the cropped cells are pasted into the whole image, which is of the first class elsewhere",
    "axes are put back into the order and direction of the file",
    "post-processing; cells without data are of the first class, in GeoTIFF files nodata",
)
"""The way back from the network's cells to the file's, in order."""


def describe(
    predictor: FilePredictor, checkpoints: Sequence[Checkpoint], networks: Sequence[str], first_stages: Sequence[str]
) -> dict[str, Any]:
    """The content of ``predictor.json``.

    Args:
        predictor: Of one network, or of several.
        checkpoints: Of each network, without what is not for others (``public.published``).
        networks: Path of the network of each within the folder.
        first_stages: Path of the first network of each that is a cascade.

    Raises:
        InputError: Something that the runner does not do.
    """
    spec, reading, post = predictor.spec, predictor.layout.reading, predictor.arrays.postprocess
    if spec.dates:
        raise InputError(
            f"checkpoint={checkpoints[0].path}: its network takes time series, expected one for single images; the "
            "exported runner reads no dates, so predict with medseg-predict"
        )
    if reading.embeddings:
        raise InputError(
            f"checkpoint={checkpoints[0].path}: its images are embeddings (data.embeddings), expected bands; the "
            "exported runner does not read them, so predict with medseg-predict"
        )
    members = zip(predictor.arrays.members, checkpoints, networks, first_stages, strict=True)
    return {
        "format": FORMAT,
        "written_by": f"medseg {__version__}",
        "ndim": spec.ndim,
        "channels": [_channel(channel) for channel in spec.channels],
        "labels": _labels(spec.labels),
        "reading": {
            "nonfinite": reading.nonfinite,
            "bands": _bands(reading),
            "image_groups": list(reading.image_groups),
            "folders": without_paths(list(predictor.layout.folders)),
            "nodata": reading.nodata,
            "grid_tolerance": reading.grid_tolerance,
            "absent": reading.absent,
            **({} if reading.date_masks is None else {"mask": _finite(vars(reading.date_masks))}),
        },
        "members": [_member(*parts) for parts in members],
        "temperature": predictor.temperature,
        **({"case_label": spec.case_label.to_dict()} if spec.case_label else {}),
        "ensemble": "mean of probabilities on the image's own grid",
        "decision": "regions above one half, later ones over earlier ones" if spec.labels.regions else "largest",
        "inverse": list(INVERSE),
        "postprocessing": [] if post is None else [_step(step, spec.labels) for step in post.steps],
        "provenance": _finite(checkpoints[0].metadata.provenance),
    }


def _bands(reading: ReadOptions) -> list[str]:
    """Names of the bands of all files, in order, with their image group in front."""
    groups = reading.image_groups
    named = [f"{group}.{name}" for group in groups for name in names_within(reading.bands, group, groups)]
    return named if groups else list(reading.bands)


def _channel(channel: Channel) -> dict[str, Any]:
    stored: dict[str, Any] = dict(vars(channel))
    if channel.formula:
        stored["program"] = [_instruction(step) for step in Formula.parse(channel.formula).steps]
    return stored


def _instruction(step: Any) -> dict[str, Any]:
    """A step of a formula in postfix order."""
    if isinstance(step, str):
        return {"band": step}
    if isinstance(step, tuple):
        function, arguments = step
        return {"function": function.__name__, "arguments": arguments}
    return {"number": float(step)}


def _labels(labels: LabelTable) -> dict[str, Any]:
    return {**labels.to_dict(), "saved_dtype": labels.saved_dtype.name, "nodata": class_nodata(labels)}


def _member(
    member: Predictor[Preprocess], checkpoint: Checkpoint, network: str, first_stage: str = ""
) -> dict[str, Any]:
    stored = _one(member, checkpoint, network)
    if isinstance(member, CascadedPredictor) and checkpoint.first_stage is not None:
        (first,) = member.first.members
        stored["first_stage"] = _one(first, checkpoint.first_stage, first_stage)
    return stored


def _one(member: Predictor[Preprocess], checkpoint: Checkpoint, network: str) -> dict[str, Any]:
    """One network with its preprocessing and windows."""
    return {
        "network": network,
        "architecture": type(member.network).__name__,
        "digest": checkpoint.digest,
        "step": checkpoint.step,
        "preprocessing": _preprocessing(member.prepare),
        "tiling": _tiling(member.tiling),
        "blending": {"weights": "gaussian", "sigma": SIGMA, "least": LEAST_WEIGHT},
        **({"facts": [fact.to_dict() for fact in member.spec.facts]} if takes_facts(member.network) else {}),
        "resampling": {"image": 3, "valid": 1, "logits": 1, "anisotropic": ANISOTROPIC},
    }


def takes_facts(network: object) -> bool:
    """Whether a network takes facts of cases."""
    return bool(getattr(network, "takes_facts", False))


def _preprocessing(prepare: Preprocess) -> dict[str, Any]:
    spacing = None if prepare.spacing is None else [float(s) for s in prepare.spacing]
    return {
        "orientation": "RAS" if spacing and len(spacing) == 3 else None,
        "crop": None if spacing is None else "nonzero",
        "spacing": spacing,
        "masked": prepare.masked,
        "normalisation": [_rule(rule) for rule in prepare.rules],
    }


def _rule(rule: Normalisation) -> dict[str, Any]:
    if "." in rule.scheme:
        raise InputError(
            f"normalisation {rule.scheme} is a class of yours, expected one of medseg's own; the exported runner has "
            "no code of yours, so predict with medseg-predict"
        )
    stored = rule.to_dict() if rule.pooled else {"scheme": rule.scheme}
    return {k: v for k, v in stored.items() if isinstance(v, str) or math.isfinite(v)}


def _tiling(tiling: Tiling) -> dict[str, Any]:
    return {
        "window": list(tiling.window),
        "overlap": tiling.overlap,
        "batch_size": tiling.batch_size,
        "flip_axes": list(tiling.flip_axes),
        "lateral_axis": tiling.lateral_axis,
        "swap": None if tiling.swap is None else list(tiling.swap),
        **({} if tiling.mirror_classes is None else {"mirror_classes": list(tiling.mirror_classes)}),
    }


def _step(step: Step, labels: LabelTable) -> dict[str, Any]:
    stored = step.to_dict()
    if isinstance(step, OfStructures):
        structures = step.structures(labels)
        stored["structures"] = [{**vars(s), "members": list(s.members)} for s in structures]
    return stored


def _finite(value: Any) -> Any:
    """Plain data without NaN and infinite numbers, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
