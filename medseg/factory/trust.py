"""Trust: which classes a stored configuration may name; nothing that it names is imported or called unchecked."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TypeGuard, get_type_hints

from medseg.errors import InputError
from medseg.finetuning.strategy import Tuning
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Encoder
from medseg.models.encoders.fusion import Fusion
from medseg.models.network import Network
from medseg.models.temporal.network import SeriesNetwork
from medseg.models.temporal.pools import Pool
from medseg.runtime.values import shown

PARTS: Mapping[str, type] = {"model": Network, "finetuning": Tuning, "temporal": SeriesNetwork}
"""Parts of a configuration from which a stored network is built, and what each has to name."""
_KINDS = (Network, Encoder, Decoder, Fusion, Pool, Tuning)
_ROOMS = ("medseg.models.", "medseg.finetuning.")
_DIRECTIVES: Mapping[str, tuple[object, ...]] = {
    "_partial_": (True, False),
    "_recursive_": (True,),
    "_convert_": ("none", "partial", "object", "all"),
}
"""Hydra's words beside ``_target_``, with the values that do no more than build; ``_args_`` is none of them."""
_FILES = (
    "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir",  # of timm
    "ckpt_path", "ckpt_data", "metadata_path",  # of terratorch
)  # fmt: skip
"""Settings of timm that make it read or download a file when a network is built."""
_MOST_NODES, _MOST_LEVELS = 100_000, 50
_MADE_FROM = "only medseg's own networks are built from a stored configuration, so that a file can't run code"


def check(config: Mapping[str, Any], source: str, trust: Sequence[str] | str = ()) -> None:
    """Hold the parts of a stored configuration to what may be built, before Hydra sees them.

    Every ``_target_``, at any depth, has to be a network, encoder, decoder, pool or way of tuning of medseg (or a
    function that returns one) in the module where it is defined; or of a trusted module. Modules of other names are
    not even imported, as that would run them. Interpolations (``${...}``) are refused: they could read the
    environment.

    Args:
        config: As a checkpoint holds it: mappings, lists and plain values.
        source: Where it was stored, for messages.
        trust: Modules of the user, such as ``my_package``: classes and functions that are defined in them, or in
            modules below them, may be built with any arguments. A whole path (``my_package.nets.Net``) trusts
            that alone, wherever it is defined.

    Raises:
        InputError: Names the key, what it names, and the way to trust it.
    """
    trusted = names(trust)
    for part in PARTS:
        if config.get(part) is None:
            continue
        if not isinstance(config[part], Mapping) or not isinstance(config[part].get("_target_"), str):
            raise InputError(f"{source}: {part}={shown(config[part])}: expected the settings of a class (_target_)")
        for key, node in nodes(config[part], part, source):
            if isinstance(node, Mapping):
                _check_directives(node, key, source)
            if isinstance(node, Mapping) and "_target_" in node:
                _check_target(node["_target_"], key, source, trusted)


def trusted_class(target: str, key: str, source: str, trusted: Sequence[str], kind: type) -> type:
    """The class of a user that a stored value names; it is imported only if it is trusted.

    Args:
        target: Its path.
        key: Where it is named, for messages.
        source: Where that was stored.
        trusted: Modules and class paths; see ``check``.
        kind: What it has to be derived from.

    Raises:
        InputError: Not trusted, not importable, or another kind of class; names the key.
    """
    start = f"{source}: {key}={shown(target)}"
    if not _below(target, trusted):
        raise InputError(
            f"{start}: is no class of medseg, so that a file can't run code; if it is your own class, add "
            f"trust=[{target.partition('.')[0]}]"
        )
    found = _located(target, start)
    if target not in trusted and not _below(str(getattr(found, "__module__", "")), trusted):
        raise InputError(f"{start}: trust={list(trusted)} holds for what is defined in these modules, and this is not")
    if not inspect.isclass(found) or not issubclass(found, kind) or inspect.isabstract(found):
        raise InputError(f"{start}: expected a class derived from {kind.__module__}.{kind.__qualname__}")
    return found


def targets(config: Mapping[str, object]) -> tuple[str, ...]:
    """Every class that the parts of a configuration name: what a run trusts in the checkpoint that it wrote itself."""
    parts = [node for part in PARTS if config.get(part) for _, node in nodes(config[part], part, "configuration")]
    return tuple(str(node["_target_"]) for node in parts if isinstance(node, Mapping) and "_target_" in node)


def names(trust: Sequence[str] | str) -> tuple[str, ...]:
    """The trusted modules of a setting, which may be a single one.

    Raises:
        InputError: Something that is no name of a module.

    Example:
        >>> names("my_package"), names(["one", "two.nets"])
        (('my_package',), ('one', 'two.nets'))
    """
    listed = (trust,) if isinstance(trust, str) else tuple(trust)
    for name in listed:
        if not isinstance(name, str) or not all(word.isidentifier() for word in name.split(".")):
            raise InputError(f"trust={shown(name)}: expected names of modules, such as trust=[my_package]")
    return listed


def nodes(value: object, key: str, source: str) -> Iterator[tuple[str, object]]:
    """Every mapping, list and plain value below a stored value, with its key; the value itself first.

    Raises:
        InputError: Another kind of value, a key that is no word, an interpolation, or more than a configuration holds.
    """
    waiting, count = [(key, value, 0)], 0
    while waiting:
        key, value, level = waiting.pop()
        count += 1
        if level > _MOST_LEVELS or count > _MOST_NODES:
            raise InputError(f"{source}: {key[:80]}: nested too deeply or too large for a configuration")
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{source}: {key}={shown(value)}: a stored configuration holds values, no interpolations")
        yield key, value
        waiting += [(below, inner, level + 1) for below, inner in reversed(_children(value, key, source))]


def _children(value: object, key: str, source: str) -> list[tuple[str, object]]:
    """The values that a mapping or a list holds, with their keys.

    Raises:
        InputError: Another kind of value, or a key that is no word.
    """
    if isinstance(value, Mapping):
        if strange := [k for k in value if not isinstance(k, (str, int))]:
            raise InputError(f"{source}: {key}: got the key {shown(strange[0])}, expected a word")
        return [(f"{key}.{k}", inner) for k, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"{key}[{i}]", inner) for i, inner in enumerate(value)]
    if isinstance(value, (str, int, float, type(None))):
        return []
    raise InputError(f"{source}: {key}: got a {type(value).__name__}, expected text, numbers, lists or mappings")


def _check_directives(node: Mapping[object, object], key: str, source: str) -> None:
    """Refuse words by which Hydra would do more than call a class with settings, and timm more than build."""
    for word, value in node.items():
        name = str(word)
        directive = name.startswith("_") and name.endswith("_") and name != "_target_"
        if directive and not any(type(value) is type(v) and value == v for v in _DIRECTIVES.get(name, ())):
            raise InputError(f"{source}: {key}.{name}={shown(value)}: {_MADE_FROM}, and this is no setting of one")
        if name in _FILES and value not in (None, False, ""):
            raise InputError(
                f"{source}: {key}.{name}={shown(value)}: a stored configuration may not name files to load"
            )


def _check_target(target: object, key: str, source: str, trusted: Sequence[str]) -> None:
    """Refuse a ``_target_`` that is neither one of medseg's parts of networks nor trusted."""
    start = f"{source}: {key}._target_={shown(target)}"
    if not _is_path(target):
        raise InputError(f"{start}: {_MADE_FROM}; expected the path of one of their classes")
    if target in trusted:
        return
    kinds = (PARTS[key],) if key in PARTS else _KINDS
    if target.startswith(_ROOMS):
        if not _is_kind(_defined(target), kinds):
            raise InputError(f"{start}: {_MADE_FROM}, and this is none ({', '.join(k.__name__ for k in kinds)})")
    elif not _below(target, trusted):
        raise InputError(f"{start}: {_MADE_FROM}; if this is your own class, add trust=[{target.partition('.')[0]}]")
    elif not (_below(str(getattr(found := _located(target, start), "__module__", "")), trusted) and callable(found)):
        raise InputError(f"{start}: trust={list(trusted)} holds for what is defined in these modules, and this is not")


def _below(path: str, trusted: Sequence[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in trusted)


def _defined(target: str) -> object:
    """What a module of medseg defines under a name; None for what it imports, or lacks.

    Raises:
        InputError: A package that the module needs is not installed.
    """
    place, _, name = target.rpartition(".")
    try:
        found = vars(import_module(place)).get(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "medseg":
            return None
        raise InputError(f"{target} can't be built: {error}; install that package") from error
    at = (getattr(found, "__module__", None), getattr(found, "__qualname__", None))
    return found if at == (place, name) else None


def _is_path(target: object) -> TypeGuard[str]:
    """Whether this is the path of a class or function, as far as its spelling goes."""
    return isinstance(target, str) and all(word.isidentifier() for word in target.split("."))


def _is_kind(found: object, kinds: tuple[type, ...]) -> bool:
    """Whether this is a class of these kinds, or a function that says that it returns one."""
    made = get_type_hints(found).get("return") if inspect.isfunction(found) else found
    return inspect.isclass(made) and issubclass(made, kinds)


def _located(target: str, start: str) -> object:
    """What stands under the path of a trusted module, found without leaving it; None if a module is another's.

    Raises:
        InputError: It can't be imported.
    """
    found: object = None
    words = target.split(".")
    for i in range(len(words)):
        path = ".".join(words[: i + 1])
        inner = None if found is None else vars(found).get(words[i])
        if inner is None:
            try:
                inner = import_module(path)
            except ImportError as error:
                raise InputError(
                    f"{start}: can't be imported ({error}); make it importable where you load it"
                ) from error
        if isinstance(inner, ModuleType) and inner.__name__ != path:
            return None
        found = inner
        if not isinstance(found, (ModuleType, type)):
            return found if i + 1 == len(words) else None
    return found
