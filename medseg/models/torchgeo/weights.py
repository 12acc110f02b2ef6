"""The weights of torchgeo by the names of their enums: found, downloaded, described."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from http.client import HTTPException
from typing import Any

from torch import Tensor
from torchgeo.models import get_model_weights, list_models

from medseg.errors import InputError, nearest, rename_keys
from medseg.models.torchgeo import bands
from medseg.weights.pretrained import Pretrained, read

_ELSEWHERE = {
    "copernicusfm": "copernicus_fm", "croma": "croma", "dofa": "dofa", "panopticon": "panopticon",
    "scalemae": "scalemae",
}  # fmt: skip
"""Families whose channels need more than a first kernel: encoders of their own."""
_NONE = {
    "aurora": "forecasts weather on a grid of the globe",
    "earthloc": "describes a whole image by one vector",
    "unet": "is a whole network with its own decoder",
}
"""Models of torchgeo that are no encoders, and why."""


def entries() -> dict[str, tuple[str, Any]]:
    """Model and weight by the full name of each entry of torchgeo's enums (``ResNet18_Weights.SENTINEL2_ALL_MOCO``)."""
    found: dict[str, tuple[str, Any]] = {}
    for model in list_models():
        try:
            enum = get_model_weights(model)
        except KeyError:  # some sizes have none
            continue
        found |= {str(weight): (model, weight) for weight in enum}
    return found


def find(name: str) -> tuple[str, object]:
    """The network of an entry, by torchgeo's name, and the entry itself.

    Raises:
        InputError: No such entry, or one whose model yields no features; names the way out.
    """
    known = entries()
    if name not in known:
        usable = [entry for entry, (model, _) in known.items() if refusal(model) is None]
        raise InputError(f"model.encoder.weights={name} is no weight of torchgeo; {nearest(name, usable)}")
    reason = refusal(known[name][0])
    if reason:
        raise InputError(f"model.encoder.weights={name}: {reason}")
    return known[name]


def check_model(name: str) -> str:
    """The name of a network of torchgeo.

    Raises:
        InputError: No such network, or one that yields no features; names the way out.
    """
    usable = [model for model in list_models() if refusal(model) is None]
    if name not in list_models():
        raise InputError(f"model.encoder.name={name} is no network of torchgeo; {nearest(name, usable)}")
    if name not in usable:
        raise InputError(f"model.encoder.name={name}: {refusal(name)}")
    return name


def refusal(model: str) -> str | None:
    """Why a model of torchgeo is no encoder by enum, and what to take instead; None if it is one."""
    family = next((f for f in (*_ELSEWHERE, *_NONE) if model.startswith(f)), None)
    if family in _ELSEWHERE:
        return f"{model} is an encoder of its own, choose model/encoder={_ELSEWHERE[family]}"
    if family in _NONE:
        return f"{model} {_NONE[family]} and yields no features; choose ResNet, ViT or Swin weights"
    return None


def fetch(name: str, *, file: str | None, way: str) -> Pretrained:
    """Tensors of an entry, downloaded or from a file, with the bands and values that they were trained on.

    Args:
        name: Of the entry.
        file: Where its file lies; None downloads it, or takes it from torch's cache.
        way: How to name a file, for the message.

    Raises:
        InputError: It can't be downloaded or read.
    """
    _, weight = entries()[name]
    if file:
        with rename_keys(("model.encoder.weights=", "model.encoder.file=")):
            state, source = read(file).state, f"{name} in {file}"
    else:
        state, source = _download(weight, way), name
    return Pretrained(state, source, channels=bands.bands(weight), **bands.preparation(weight))


def fetch_published(source: str, published: Mapping[str, str], size: str, normalisation: str = "") -> Pretrained:
    """``pretrained``: the entry of a size; anything else: a file.

    A file that does not tell what it was trained on is taken for a published one.

    Args:
        source: Words of ``model.encoder.weights``.
        published: Full name of the entry by size.
        size: Of the encoder.
        normalisation: How images were prepared for the published ones, in words, where torchgeo does not say it.

    Raises:
        InputError: None of this size; it can't be downloaded or read.
    """
    known = entries()
    if source != "pretrained":
        found = read(source)
        if found.channels or found.mean or found.normalisation:
            return found
        weight = known[next(iter(published.values()))][1]
        told = {"normalisation": normalisation} | bands.preparation(weight)
        return replace(found, channels=bands.bands(weight), **told)
    if size not in published:
        raise InputError(
            f"model.encoder.weights=pretrained: there are none of size {size}; choose model.encoder.size="
            f"{' or '.join(published)}, or give a file, model.encoder.weights=FILE"
        )
    found = fetch(published[size], file=None, way="model.encoder.weights=FILE")
    return replace(found, normalisation=found.normalisation or normalisation)


def _download(weight: Any, way: str) -> dict[str, Tensor]:
    """Tensors by torchgeo's own download; nothing in the file is executed."""
    try:
        state: dict[str, Any] = weight.get_state_dict(progress=True, map_location="cpu", weights_only=True)
    except (OSError, HTTPException) as error:
        raise InputError(
            f"{weight} can't be downloaded from {weight.url} ({error}); where there is no network, fetch the file "
            f"elsewhere and give {way}"
        ) from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{weight}: the file of {weight.url} holds more than tensors and is not read") from error
    return flat(state)


def flat(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of nested mappings under dotted names; what is no tensor is left out.

    Example:
        >>> import torch
        >>> list(flat({"s1": {"a.weight": torch.zeros(1)}, "epoch": 3}))
        ['s1.a.weight']
    """
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            found[key] = value
        elif isinstance(value, Mapping):
            found |= {f"{key}.{inner}": tensor for inner, tensor in flat(value).items()}
    return found
