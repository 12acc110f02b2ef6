"""What a file, or one that lies beside it, tells of the images that its weights were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medseg.sample import Channel
from medseg.weights.resolve import NAMES

SIDECARS = ("preprocessor_config.json", "config.json")
"""Files of Hugging Face that tell how images were prepared: of transformers, and of timm."""
_COLOURS = (Channel("R"), Channel("G"), Channel("B"))
_PHOTOGRAPH = 255.0


@dataclass(frozen=True)
class Images:
    """Images of a training; see ``Pretrained`` for the meaning of each."""

    channels: tuple[Channel, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None
    normalisation: str = ""


def images_of(content: Mapping[str, Any], file: Path) -> Images:
    """What is told of the images: in a checkpoint of medseg, or beside a file of Hugging Face.

    Args:
        content: Of the file.
        file: Where it lies.
    """
    if isinstance(content.get("medseg"), Mapping):
        return _of_medseg(content["medseg"])
    if file.name in NAMES:
        for sidecar in SIDECARS:
            told = _of_sidecar(file.with_name(sidecar))
            if told is not None:
                return told
    return Images()


def _of_medseg(stored: Mapping[str, Any]) -> Images:
    """From data and plan of a checkpoint; nothing if they are of another form."""
    known = {f.name for f in fields(Channel)}
    try:
        channels = tuple(Channel(**{k: v for k, v in c.items() if k in known}) for c in stored["spec"]["channels"])
        rules = list(stored["plan"]["normalisation"])
        schemes = [str(rule["scheme"]) for rule in rules]
        pooled = set(schemes) <= {"ct", "standard"} and all("mean" in rule and "std" in rule for rule in rules)
        mean, std = (tuple(float(rule[key]) for rule in rules) if pooled else () for key in ("mean", "std"))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return Images()
    if pooled:
        return Images(channels, mean, std, 1.0)
    return Images(channels, normalisation=f"normalisation {', '.join(schemes)}")


def _of_sidecar(file: Path) -> Images | None:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict):
        return None
    timm = stored.get("pretrained_cfg")
    told = timm if isinstance(timm, dict) else stored
    mean, std = (_numbers(told.get(k) or told.get(f"image_{k}")) for k in ("mean", "std"))
    if not mean or len(mean) != len(std):
        return None
    factor = stored.get("rescale_factor", 1 / _PHOTOGRAPH)
    scale = 1 / factor if isinstance(factor, float) and factor > 0 else _PHOTOGRAPH
    channels = _COLOURS if len(mean) == len(_COLOURS) else ()
    return Images(channels, mean, std, scale)


def _numbers(values: object) -> tuple[float, ...]:
    """A list of numbers; nothing if it is anything else."""
    if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
        return ()
    return tuple(float(v) for v in values)
