"""What a file, or one that lies beside it, tells of the images that its weights were trained on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medseg.errors import InputError
from medseg.runtime.values import mapped
from medseg.sample import Channel
from medseg.weights.bands import of_sentinel2
from medseg.weights.nnunet_plans import plans_of
from medseg.weights.onnx_file import is_onnx
from medseg.weights.resolve import NAMES

SIDECARS = ("preprocessor_config.json", "config.json", "open_clip_config.json")
"""Files of Hugging Face that say how images were prepared: of transformers, of timm, and of open_clip."""
_WITHIN = ("pretrained_cfg", "preprocess_cfg")
"""Keys under which timm and open_clip have it."""
_COLOURS = (Channel("R"), Channel("G"), Channel("B"))
_PHOTOGRAPH = 255.0
_PAIR = ("mean", "std")


@dataclass(frozen=True)
class Images:
    """Images of a training; see ``Pretrained`` for the meaning of each."""

    channels: tuple[Channel, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float | None = None
    normalisation: str = ""
    order: tuple[int, ...] = ()


def images_of(content: Mapping[str, object], file: Path) -> Images:
    """What is said of the images: in a checkpoint of medseg or nnU-Net, or next to a file of Hugging Face or ONNX.

    Args:
        content: Of the file.
        file: Where it lies.
    """
    if isinstance(stored := content.get("medseg"), Mapping):
        return _of_medseg(stored)
    if isinstance(stored := content.get("init_args"), Mapping):
        return _of_nnunet(stored)
    if is_onnx(file):
        return _of_statistics(file.with_suffix(".json"))
    if file.name in NAMES:
        for sidecar in SIDECARS:
            told = _of_sidecar(file.with_name(sidecar))
            if told is not None:
                return told
    return Images()


def _of_medseg(stored: Mapping[str, Any]) -> Images:
    """From data and plan of a checkpoint; nothing if they are of another form."""
    try:
        channels = _channels(stored["spec"]["channels"])
        rules = list(stored["plan"]["normalisation"])
        schemes = [str(rule["scheme"]) for rule in rules]
        statistics = _statistics(rules, schemes)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return Images()
    if statistics is None:
        return Images(channels, normalisation=f"normalisation {', '.join(schemes)}")
    return Images(channels, *statistics, 1.0)


def _channels(stored: Sequence[Mapping[str, Any]]) -> tuple[Channel, ...]:
    """Channels of a checkpoint, of whatever version: keys that this one does not know are left out."""
    known = {f.name for f in fields(Channel)}
    return tuple(Channel(**{k: v for k, v in c.items() if k in known}) for c in stored)


def _statistics(
    rules: Sequence[Mapping[str, Any]], schemes: Collection[str]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of each channel; None if a channel is normalised by others than those of the training set."""
    if not set(schemes) <= {"ct", "standard"} or not all("mean" in rule and "std" in rule for rule in rules):
        return None
    return tuple(float(rule["mean"]) for rule in rules), tuple(float(rule["std"]) for rule in rules)


def _of_nnunet(stored: Mapping[str, Any]) -> Images:
    """From the plans and the dataset in a checkpoint; nothing if they are of another form."""
    try:
        plans = plans_of(stored["plans"], stored["configuration"])
        declared = mapped(stored["dataset_json"], "dataset_json")
        named = mapped(declared.get("channel_names", declared.get("modality")), "channel_names")
    except (InputError, KeyError, TypeError):
        return Images()
    channels = tuple(Channel(str(named[key])) for key in sorted(named, key=lambda key: (len(key), key)))
    if set(plans.schemes) == {"ct"} and len(plans.schemes) == len(channels):
        mean, std = (tuple(held[key] for held in plans.statistics) for key in ("mean", "std"))
        return Images(channels, mean, std, 1.0, order=plans.order)
    return Images(channels, normalisation=f"normalisation {', '.join(plans.schemes)}", order=plans.order)


def _stated(stored: dict[str, object]) -> dict[str, object]:
    """The part of a file of Hugging Face that says how images were prepared."""
    return next((held for key in _WITHIN if isinstance(held := stored.get(key), dict)), stored)


def _of_sidecar(file: Path) -> Images | None:
    """From a file of Hugging Face; None if it does not say how images are prepared."""
    stored = _json_object(file)
    stated = _stated(stored)
    mean, std = (_numbers(stated.get(k) or stated.get(f"image_{k}")) for k in _PAIR)
    if not mean or len(mean) != len(std):
        return None
    factor = stored.get("rescale_factor", 1 / _PHOTOGRAPH)
    scale = 1 / factor if isinstance(factor, float) and factor > 0 else _PHOTOGRAPH
    channels = _COLOURS if len(mean) == len(_COLOURS) else ()
    return Images(channels, mean, std, scale)


def _of_statistics(file: Path) -> Images:
    """From JSON next to a file of ONNX, with ``band_names`` and mean and std of each, in the unit of the images.

    Both stand at the top, or as ``data.dataset_statistics`` with ``img: [means, stds]``.
    """
    stored = _json_object(file)
    data = stored.get("data")
    nested = data.get("dataset_statistics") if isinstance(data, dict) else None
    statistics = nested if isinstance(nested, dict) else stored
    names, pair = statistics.get("band_names"), statistics.get("img")
    mean, std = (
        _numbers(v) for v in (pair if isinstance(pair, list) and len(pair) == 2 else map(statistics.get, _PAIR))
    )
    channels = tuple(of_sentinel2(name) for name in names if isinstance(name, str)) if isinstance(names, list) else ()
    if not channels or len(channels) != len(mean) or len(mean) != len(std):
        return Images(channels)
    return Images(channels, mean, std, 1.0)


def _json_object(file: Path) -> dict[str, object]:
    """The object that a file holds; an empty one if it holds none or cannot be read."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _numbers(values: object) -> tuple[float, ...]:
    """A list of numbers; nothing if it is anything else."""
    if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
        return ()
    return tuple(float(v) for v in values)
