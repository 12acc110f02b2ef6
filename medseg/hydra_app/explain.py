"""One line for a configuration that does not compose, with the nearest right names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.errors import similar
from medseg.hydra_app.conf import composed, conf_dirs, flattened
from medseg.hydra_app.options import IN_FOLDERS, SHARED, groups, option_files
from medseg.hydra_app.overrides import from_data
from medseg.hydra_app.retired import OPTIONS, replacement


def explain(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """One line for a configuration that does not compose, with the nearest right names."""
    text = str(error)
    if isinstance(error, MissingConfigException):
        return _no_option(error)
    if isinstance(error, ConfigCompositionException):
        inner = _first(r"full_key: (\S+)", f"{text} {error.__cause__}")
        if key := _first(r"Could not override '([^']+)'", text) or inner:
            return _no_key(key, inner, config_name, overrides, _failed_at(error))
    if any(words in text for words in ("LexerNoViableAlt", "mismatched input", "viable alternative")):
        return f"an override could not be read, expected key=value (quote spaces, commas and brackets): {text}"
    return text


def _no_option(error: MissingConfigException) -> str:
    path = error.missing_cfg_file or ""
    group = (
        path.partition("/")[0] if path.startswith(tuple(f"{name}/" for name in IN_FOLDERS)) else path.rpartition("/")[0]
    )
    option = path.removeprefix(f"{group}/")
    if new := replacement(f"{group}={option}"):
        return f"{group}={option} is called {new} now"
    options = [name for name in error.options or [] if not name.endswith(SHARED)]
    in_folders = option_files(group, conf_dirs()) if group in IN_FOLDERS else {}
    return f"{group}={option} is no option; {_nearest(option, [*options, *in_folders])}"


def _no_key(key: str, inner: str | None, config_name: str, overrides: Sequence[str], config: DictConfig | None) -> str:
    """The line for a key that does not exist.

    Args:
        key: The key of the override.
        inner: The key that is missing by Hydra's message, if it names one.
        config_name: Without ``.yaml``.
        overrides: Words of the command.
        config: What Hydra had composed before this override; None: nothing.
    """
    if renamed := _renamed(key, config_name, overrides, config):
        return renamed
    if options := _options_with(key):
        return f"{key} is no choice here, it belongs to {' or '.join(options)}; choose that too"
    if from_data(key):
        return f"{key} is no key of the configuration: it is derived from {from_data(key)}; leave it out"
    keys = _keys(config_name, overrides, key, config)
    missing = inner if inner and key in keys else key
    return f"{missing} is no key of the configuration; {_nearest(missing, keys)}"


def _renamed(key: str, config_name: str, overrides: Sequence[str], config: DictConfig | None) -> str | None:
    """The line for a key of an earlier version; None for others, and for commands without the one that replaced it."""
    words = (word.lstrip("+~") for word in overrides)
    old = next((word for word in words if word in OPTIONS and word.startswith(f"{key}=")), key)
    new = replacement(old)
    if new is None or re.split("[.=]", new)[0] not in _keys(config_name, [], key, config):
        return None
    return f"{old} is called {new} now"


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1).lstrip("+~") if match else None


def _nearest(name: str, candidates: Iterable[str]) -> str:
    names = list(dict.fromkeys(candidates))
    near = [n for n in names if n.rpartition(".")[2] == name][:3]  # right, but it lives in a group
    near = near or [n for n in names if n.startswith(f"{name}/")]  # a folder of options
    near = near or similar(name, names)
    return f"did you mean {', '.join(near)}?" if near else f"expected one of: {', '.join(names)}"


def _failed_at(error: Exception) -> DictConfig | None:
    """The composed configuration in which an override found no key; None if Hydra did not get that far."""
    cause = error.__cause__
    node = cause.parent_node if isinstance(cause, OmegaConfBaseException) else None
    root = None if node is None else node._get_root()
    return root if isinstance(root, DictConfig) else None


def _keys(config_name: str, overrides: Sequence[str], wrong: str, config: DictConfig | None) -> list[str]:
    """Every key of the configuration under these choices of groups, and the groups that it has; not ``wrong``."""
    config = _chosen(config_name, overrides, wrong) if config is None else config
    content = OmegaConf.to_container(config, resolve=False)
    keys = [key for key, _ in flattened(content) if key.partition(".")[0] != "hydra"]
    names = [group.name for group in groups(config_name, conf_dirs())]
    return [*keys, *(name for name in names if "/" not in name or name.replace("/", ".") in keys)]


def _chosen(config_name: str, overrides: Sequence[str], wrong: str) -> DictConfig:
    """The configuration under the choices of groups among the words of a command, as far as they are right."""
    options = [p.parent.relative_to(folder) for folder in conf_dirs() for p in folder.glob("*/**/*.yaml")]
    names = {path.as_posix() for path in options} - {wrong}
    try:
        return composed(config_name, [o for o in overrides if o.partition("=")[0] in names])
    except HydraException:  # another choice is wrong as well
        return composed(config_name, [])


def _options_with(group: str) -> list[str]:
    """Options of the group above that have the group ``group``: ``model=encoder_decoder`` for ``model/encoder``."""
    above, _, name = group.rpartition("/")
    options = []
    paths = [path for folder in conf_dirs() for path in sorted((folder / above).glob("*.yaml"))]
    for path in paths if above else ():
        defaults: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if any(isinstance(entry, dict) and name in entry for entry in defaults.get("defaults", ())):
            options.append(f"{above}={path.stem}")
    return options
