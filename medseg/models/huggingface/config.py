"""What a network of transformers is built from: family and size, the config.json of weights, or all of it told."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from medseg.errors import InputError
from medseg.models.huggingface.sizes import ALIASES, Sizes
from medseg.weights import hub
from medseg.weights.resolve import file_at

REFUSALS = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, ZeroDivisionError, StrictDataclassError,
)  # fmt: skip
"""What transformers raises for settings that do not fit."""
DESCRIPTION = "config.json"
_WITHIN = ("vision_config", "backbone_config")
"""Keys under which the configuration of a whole network holds that of its encoder."""
_IDLE = {
    "architectures", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id", "stage_names",
    "out_features", "out_indices", "num_channels", "_name_or_path", "_attn_implementation_autoset",
}  # fmt: skip
"""Keys that are not of the architecture, or that are set here."""


@dataclass(frozen=True)
class Wish:
    """What the settings say of a network; ``describe`` makes one description of it.

    Attributes:
        key: Where they stand, ``model.encoder`` or ``model``, for messages.
        family: One of the table, or ``auto``: of the weights' config.json, else the first of the table.
        size: One of the family's, or ``auto``: of the weights' config.json, else the first of the family.
        config: Settings of transformers' configuration. With ``model_type`` among them they are all of it,
            and neither family, size nor weights are looked at; else they change what those say.
        weights: See ``weights.pretrained.read``.
    """

    key: str
    family: str = "auto"
    size: str = "auto"
    config: Mapping[str, Any] | None = None
    weights: str | None = None


def describe(sizes: Sizes, wish: Wish) -> dict[str, Any]:
    """The settings from which transformers builds the network, with ``model_type``; JSON-able.

    Args:
        sizes: The families that can be had.
        wish: What is asked for.

    Raises:
        InputError: An unknown family, size or setting; or what weights say does not agree with them.
    """
    given = dict(wish.config or {})
    if "model_type" in given:
        return _narrow(sizes, given, f"{wish.key}.config", wish)
    family = _family(sizes, wish) if wish.family != "auto" else None
    told = _told(wish.weights) if wish.weights is not None and wish.size == "auto" else None
    if told is not None:
        found = _narrow(sizes, told, f"config.json of {wish.key}.weights={wish.weights}", wish)
        if family not in (None, found["model_type"]):
            raise InputError(
                f"{wish.key}.family={wish.family}, but {wish.key}.weights={wish.weights} are of "
                f"{found['model_type']}; leave the family out"
            )
    else:
        if family is None and wish.size == "auto" and not given and _is_folder(wish.weights):
            raise InputError(
                f"{wish.key}.weights={wish.weights}: this folder has no {DESCRIPTION}, which tells the architecture; "
                f"add it, or say {wish.key}.family and {wish.key}.size"
            )
        family = family or next(iter(sizes))
        found = {"model_type": family, **_preset(sizes[family], family, wish)}
    _check_known(found["model_type"], given, f"{wish.key}.config")
    return merge(found, given)


def saved(sizes: Sizes, weights: str, described: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The description of the network that wrote weights, which could be read: their config.json's, else the given."""
    try:
        told = _told(weights)
    except InputError:  # a hub's repository without config.json
        told = None
    return described if told is None else _narrow(sizes, told, f"config.json of {key}.weights={weights}", Wish(key))


def merge(found: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them; a configuration within another is changed likewise, or replaced with its type.

    Example:
        >>> merge({"a": 1, "within": {"b": 2, "c": 3}}, {"within": {"c": 4}})
        {'a': 1, 'within': {'b': 2, 'c': 4}}
    """
    merged = dict(found)
    for key, value in given.items():
        old = merged.get(key)
        within = isinstance(old, Mapping) and isinstance(value, Mapping) and "model_type" not in value
        merged[key] = merge(old, value) if within and old is not None else value
    return merged


def make(described: Mapping[str, Any], key: str) -> PreTrainedConfig:
    """The configuration of a description.

    Raises:
        InputError: Values that transformers refuses.
    """
    _refuse_kernels(described, key)
    settings = {k: v for k, v in described.items() if k != "model_type"}
    with refusing(key, described["model_type"]):
        made: PreTrainedConfig = AutoConfig.for_model(described["model_type"], **settings)
    return made


def _refuse_kernels(described: Mapping[str, Any], key: str) -> None:
    """Refuse an attention that transformers would download as a program, from a repository of the hub."""
    for name, value in described.items():
        if name in ("attn_implementation", "_attn_implementation") and not str(value).isidentifier():
            raise InputError(
                f"{key}.config.{name}={str(value)[:80]!r}: expected a way of attention that transformers has, such as "
                "sdpa or eager; programs are not downloaded"
            )
        if isinstance(value, Mapping):
            _refuse_kernels(value, key)


@contextmanager
def refusing(key: str, family: str) -> Iterator[None]:
    """Around what transformers builds from settings: what it says against them becomes one line.

    Raises:
        InputError: It does not take them.
    """
    try:
        yield
    except InputError:
        raise
    except REFUSALS as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{key}.config does not make a {family}: {told}") from error


def nearest(name: str, names: Iterable[str]) -> str:
    """The names most like another, for messages."""
    return f"the nearest are {', '.join(difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.0))}"


def _told(weights: str) -> dict[str, Any] | None:
    """The config.json of weights: in their folder, beside their file, or on the hub; None if there is none.

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
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return dict(told)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: can't be read as the keys and values of a network ({error})") from error


def _is_folder(weights: str | None) -> bool:
    return weights is not None and Path(weights).expanduser().is_dir()


def _family(sizes: Sizes, wish: Wish) -> str:
    family = ALIASES.get(wish.family, wish.family)
    if family not in sizes:
        known = {*sizes, *(short for short, long in ALIASES.items() if long in sizes)}
        raise InputError(f"{wish.key}.family={wish.family} is none that can be had; {nearest(wish.family, known)}")
    return family


def _preset(known: Mapping[str, Mapping[str, Any]], family: str, wish: Wish) -> Mapping[str, Any]:
    size = next(iter(known)) if wish.size == "auto" else str(wish.size)
    if size not in known:
        raise InputError(f"{wish.key}.size={size}: expected a size of {family}, {', '.join(known)}")
    return known[size]


def _narrow(sizes: Sizes, told: Mapping[str, Any], where: str, wish: Wish) -> dict[str, Any]:
    """The description of one of the families in that of a network which may be more than it."""
    inner: Mapping[str, Any] | None = told
    while inner is not None:
        kind = inner.get("model_type")
        within = next((inner[key] for key in _WITHIN if isinstance(inner.get(key), Mapping)), None)
        kind = ALIASES.get(str(kind), kind) if within is None else kind
        if kind in sizes:
            return {"model_type": kind, **{k: v for k, v in inner.items() if k not in _IDLE | {"model_type"}}}
        inner = within
    instead = f"; or say {wish.key}.size, and it is not asked" if where.startswith(DESCRIPTION) else ""
    raise InputError(
        f"{where}: got a network of type {told.get('model_type')}, for {wish.key} expected one of "
        f"{', '.join(sizes)}{instead}"
    )


def _check_known(family: str, given: Mapping[str, Any], key: str) -> None:
    """Refuse settings that the configuration does not have; transformers would keep them and do nothing."""
    usual = AutoConfig.for_model(family)
    for name, value in given.items():
        if not hasattr(usual, name):
            names = [n for n in usual.to_dict() if not n.startswith("_")]
            raise InputError(f"{key}.{name} is no setting of {family}; {nearest(name, names)}")
        within = getattr(usual, name)
        if isinstance(value, Mapping) and isinstance(within, PreTrainedConfig):
            inner = {k: v for k, v in value.items() if k != "model_type"}
            _check_known(value.get("model_type", within.model_type), inner, f"{key}.{name}")
