"""Choices: the option of a group that a part of a configuration was composed from, for screens and trackers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from medseg.hydra_app.conf import conf_dirs
from medseg.hydra_app.options import option_files
from medseg.runtime.values import leaves

_ANY = object()
_NAMES = ("name", "architecture")
"""Keys by which one option of a part chooses among many networks."""


def option_name(group: str, part: Any) -> str:
    """The option that a part of a configuration is, such as ``smp_unet`` of the group ``model``.

    In a command it is the option that was chosen. A configuration that was composed in Python, or stored with a run,
    does not say which one that was: then it is the option of the same class whose settings differ least, the first one
    of several; of a class that no option names, the name of the class.

    Args:
        group: Such as ``model`` or ``model/encoder``.
        part: Its part of the configuration, with a ``_target_``.

    Example:
        >>> option_name("optimizer", {"_target_": "torch.optim.SGD", "lr": 0.1})
        'sgd'
    """
    plain: Any = OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part
    settings = dict(leaves(plain, empty=True))
    options = _options(group)
    choice, overrides = _chosen(group)
    if choice is not None and (choice not in options or _differing(options[choice], settings) <= overrides):
        return choice
    same = {name: own for name, own in options.items() if own.get("_target_") == settings.get("_target_")}
    if not same:
        return str(settings.get("_target_")).rpartition(".")[2]
    return min(same, key=lambda name: (len(_differing(same[name], settings)), len(name)))


def network_name(model: Any) -> str:
    """The option of the network; of an encoder with a decoder both of these, such as ``timm/vit_tiny + unet``.

    Args:
        model: The part ``model`` of a configuration.
    """
    parts = [kind for kind in ("encoder", "decoder") if "_target_" in _mapping(model.get(kind))]
    if parts:
        return " + ".join(_part_name(f"model/{kind}", model[kind]) for kind in parts)
    return option_name("model", model)


def _part_name(group: str, part: Any) -> str:
    inner = _mapping(part.get("of"))
    if "_target_" in inner:
        return f"{option_name(group, part)} {_part_name(group, part['of'])}"
    name = next((part[key] for key in _NAMES if part.get(key)), None)
    return option_name(group, part) if name is None else f"{option_name(group, part)}/{name}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) or OmegaConf.is_dict(value) else {}


def _chosen(group: str) -> tuple[str | None, set[str]]:
    """The option of the running command, and the keys of its group that the command overrides."""
    if not HydraConfig.initialized():
        return None, set()
    hydra = HydraConfig.get()
    prefix = group.replace("/", ".") + "."
    keys = {word.lstrip("+~").partition("=")[0] for word in hydra.overrides.task}
    return hydra.runtime.choices.get(group), {key.removeprefix(prefix) for key in keys if key.startswith(prefix)}


def _differing(option: Mapping[str, object], settings: Mapping[str, object]) -> set[str]:
    """Keys that an option and the settings do not share, or that have another value there."""
    other = {key for key in option.keys() & settings.keys() if option[key] not in (_ANY, settings[key])}
    return other | option.keys() ^ settings.keys()


@cache
def _options(group: str) -> dict[str, dict[str, object]]:
    """Settings, by keys with dots, of each option of a group of the package and of plug-ins."""
    return {name: _settings(path) for name, path in option_files(group, conf_dirs()).items()}


def _settings(path: Path) -> dict[str, Any]:
    """Values of an option, and of those that it includes; ``_ANY`` for what it interpolates."""
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    settings: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        for included in _included(path, entry):
            settings |= _settings(included)
    own = dict(leaves(content, empty=True))
    return settings | {key: _ANY if isinstance(value, str) and "${" in value else value for key, value in own.items()}


def _included(path: Path, entry: Any) -> list[Path]:
    """Files of an entry of a defaults list whose keys are those of the option itself.

    One of its folder, or a list of a group within its own, as of the terms of a loss.
    """
    if isinstance(entry, str):
        return [file for file in (path.with_name(f"{entry}.yaml"),) if file.is_file()]
    lists = {group: names for group, names in entry.items() if isinstance(names, list)}
    return [path.parent / group / f"{name}.yaml" for group, names in lists.items() for name in names]
