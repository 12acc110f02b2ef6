"""Configuration of a network of transformers: from family and size, the config.json of weights, or its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from medseg.errors import InputError, nearest
from medseg.models.huggingface.sizes import ALIASES, Sizes
from medseg.weights import hub
from medseg.weights.resolve import file_at

REFUSALS = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, ZeroDivisionError, StrictDataclassError,
)  # fmt: skip
"""What transformers raises for settings that do not fit."""
DESCRIPTION = "config.json"
_WITHIN = ("vision_config", "backbone_config")
"""Keys under which the configuration of a network holds that of its encoder."""
_IDLE = {
    "architectures", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id", "stage_names",
    "out_features", "out_indices", "num_channels", "_name_or_path", "_attn_implementation_autoset",
}  # fmt: skip
"""Keys that are not of the architecture, or that are set here."""


@dataclass(frozen=True)
class Request:
    """The settings of a network; ``describe`` makes one description of them.

    Attributes:
        key: Key of the configuration that holds them, ``model.encoder`` or ``model``, for messages.
        family: One of the table, or ``auto``: of the weights' config.json, else the first of the table.
        size: One of the family's, or ``auto``: of the weights' config.json, else the first of the family.
        config: Settings of transformers' configuration. With ``model_type`` among them they are complete,
            and family, size and weights are not read; else they override those.
        weights: See ``weights.pretrained.read``.
    """

    key: str
    family: str = "auto"
    size: str = "auto"
    config: Mapping[str, Any] | None = None
    weights: str | None = None


def describe(sizes: Sizes, request: Request) -> dict[str, Any]:
    """The settings from which transformers builds the network, with ``model_type``; JSON-able.

    Args:
        sizes: The families to choose from.
        request: The settings.

    Raises:
        InputError: An unknown family, size or setting; or settings that disagree with the weights' config.json.
    """
    overrides = dict(request.config or {})
    if "model_type" in overrides:
        return _narrow(sizes, overrides, f"{request.key}.config", request)
    family = _family(sizes, request) if request.family != "auto" else None
    description = _of_weights(sizes, family, request)
    if description is None:
        description = _of_table(sizes, family, request)
    _check_settings(description["model_type"], overrides, f"{request.key}.config")
    return merge(description, overrides)


def _of_weights(sizes: Sizes, family: str | None, request: Request) -> dict[str, Any] | None:
    """The description in the config.json of the weights; None without one, or where a size is set.

    Raises:
        InputError: It is of another family, or can't be read.
    """
    content = _read_config(request.weights) if request.weights is not None and request.size == "auto" else None
    if content is None:
        return None
    description = _narrow(sizes, content, f"config.json of {request.key}.weights={request.weights}", request)
    if family not in (None, description["model_type"]):
        raise InputError(
            f"{request.key}.family={request.family}, but {request.key}.weights={request.weights} are of "
            f"{description['model_type']}; leave the family out"
        )
    return description


def _of_table(sizes: Sizes, family: str | None, request: Request) -> dict[str, Any]:
    """The description of a family and a size, or of the first of each.

    Raises:
        InputError: A folder of weights without config.json, and nothing else that names the architecture.
    """
    if family is None and request.size == "auto" and not request.config and _is_folder(request.weights):
        raise InputError(
            f"{request.key}.weights={request.weights}: this folder has no {DESCRIPTION}, which tells the architecture; "
            f"add it, or say {request.key}.family and {request.key}.size"
        )
    family = family or next(iter(sizes))
    return {"model_type": family, **_preset(sizes[family], family, request)}


def saved(sizes: Sizes, weights: str, described: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The description in the config.json of weights, if it can be read, else ``described``."""
    try:
        content = _read_config(weights)
    except InputError:  # a hub's repository without config.json
        content = None
    if content is None:
        return described
    return _narrow(sizes, content, f"config.json of {key}.weights={weights}", Request(key))


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with overrides; a nested configuration is merged too, or replaced by one that names its type.

    Example:
        >>> merge({"a": 1, "within": {"b": 2, "c": 3}}, {"within": {"c": 4}})
        {'a': 1, 'within': {'b': 2, 'c': 4}}
    """
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        within = isinstance(old, Mapping) and isinstance(value, Mapping) and "model_type" not in value
        merged[key] = merge(old, value) if within and old is not None else value
    return merged


def make(described: Mapping[str, Any], key: str) -> PreTrainedConfig:
    """The configuration of a description.

    Raises:
        InputError: Values that transformers rejects.
    """
    _refuse_kernels(described, key)
    settings = {k: v for k, v in described.items() if k != "model_type"}
    with refusing(key, described["model_type"]):
        config: PreTrainedConfig = AutoConfig.for_model(described["model_type"], **settings)
    return config


def _refuse_kernels(described: Mapping[str, object], key: str) -> None:
    """Raise on an attention that transformers would download as a program, from a repository of the hub."""
    for name, value in described.items():
        if name in ("attn_implementation", "_attn_implementation") and not str(value).isidentifier():
            raise InputError(
                f"{key}.config.{name}={str(value)[:80]!r}: expected an attention implementation of transformers, such "
                "as sdpa or eager; programs are not downloaded"
            )
        if isinstance(value, Mapping):
            _refuse_kernels(value, key)


@contextmanager
def refusing(key: str, family: str) -> Iterator[None]:
    """Context in which transformers builds something from settings: its errors become one line.

    Raises:
        InputError: Settings that it rejects.
    """
    try:
        yield
    except InputError:
        raise
    except REFUSALS as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{key}.config does not make a {family}: {message}") from error


def _read_config(weights: str) -> dict[str, object] | None:
    """The config.json of weights: in their folder, next to their file, or on the hub; None if there is none.

    Raises:
        InputError: No such folder or file, no network, or a config.json that can't be read.
    """
    place = weights.rpartition("::")[0] or weights
    if place.startswith(hub.PREFIX):
        try:
            path = hub.fetch("/".join([*place.split("/")[:2], DESCRIPTION]))
        except InputError as error:
            line = str(error).replace(f"/{DESCRIPTION}:", ":")
            raise InputError(f"{line}, or its whole folder, with {DESCRIPTION}") from error
    else:
        path = file_at(Path(place).expanduser()).with_name(DESCRIPTION)
    if not path.is_file():
        return None
    try:
        content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return dict(content)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: can't be read as the keys and values of a network ({error})") from error


def _is_folder(weights: str | None) -> bool:
    """Whether weights are a folder on this machine."""
    return weights is not None and Path(weights).expanduser().is_dir()


def _family(sizes: Sizes, request: Request) -> str:
    """Name of the family that is set, by transformers' name of it."""
    family = ALIASES.get(request.family, request.family)
    if family not in sizes:
        names = {*sizes, *(short for short, long in ALIASES.items() if long in sizes)}
        raise InputError(f"{request.key}.family={request.family} is unknown; {nearest(request.family, names)}")
    return family


def _preset(presets: Mapping[str, Mapping[str, object]], family: str, request: Request) -> Mapping[str, object]:
    """Settings of the size that is set, or of the first."""
    size = next(iter(presets)) if request.size == "auto" else str(request.size)
    if size not in presets:
        raise InputError(f"{request.key}.size={size}: expected a size of {family}, {', '.join(presets)}")
    return presets[size]


def _narrow(sizes: Sizes, config: Mapping[str, Any], where: str, request: Request) -> dict[str, Any]:
    """The description of one of the families, from the configuration of a network that is or holds it."""
    inner: Mapping[str, Any] | None = config
    while inner is not None:
        kind = inner.get("model_type")
        within = next((inner[key] for key in _WITHIN if isinstance(inner.get(key), Mapping)), None)
        kind = ALIASES.get(str(kind), kind) if within is None else kind
        if kind in sizes:
            return {"model_type": kind, **{k: v for k, v in inner.items() if k not in _IDLE | {"model_type"}}}
        inner = within
    hint = f"; or set {request.key}.size, so that it is not read" if where.startswith(DESCRIPTION) else ""
    raise InputError(
        f"{where}: got a network of type {config.get('model_type')}, for {request.key} expected one of "
        f"{', '.join(sizes)}{hint}"
    )


def _check_settings(family: str, settings: Mapping[str, Any], key: str) -> None:
    """Raise on settings that the configuration does not have; transformers would store them without effect."""
    default = AutoConfig.for_model(family)
    for name, value in settings.items():
        if not hasattr(default, name):
            names = [n for n in default.to_dict() if not n.startswith("_")]
            raise InputError(f"{key}.{name} is no setting of {family}; {nearest(name, names)}")
        within = getattr(default, name)
        if isinstance(value, Mapping) and isinstance(within, PreTrainedConfig):
            inner = {k: v for k, v in value.items() if k != "model_type"}
            _check_settings(value.get("model_type", within.model_type), inner, f"{key}.{name}")
