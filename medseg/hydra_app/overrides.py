"""Overrides of the command line: mappings that are open to any name, and keys that the data decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_EMPTY = re.compile(r"^ *(\w+): *\{\}", re.MULTILINE)
_PLAIN = re.compile(r"(?P<key>[A-Za-z_]\w*(?:\.\w+)+)=(?P<value>.*)", re.DOTALL)
_FOUND_IN_DATA = {
    **dict.fromkeys(("num_classes", "n_classes", "classes", "out_channels", "out_chans"), "data.labels"),
    **dict.fromkeys(("in_channels", "in_chans", "input_channels", "num_channels", "n_channels"), "data.channels"),
}


def from_data(key: str) -> str | None:
    """The key of the data that decides what other packages ask for by this name; None for other names.

    Example:
        >>> from_data("model.num_classes")
        'data.labels'
    """
    return _FOUND_IN_DATA.get(key.rpartition(".")[2])


def with_open_mappings(
    words: Sequence[str], folders: Sequence[Path], compose: Callable[[Sequence[str]], DictConfig]
) -> list[str]:
    """The words of a command, in which keys of open mappings are added instead of looked for.

    A mapping that a file of the configuration writes as ``{}`` is open: it takes any name. Hydra rejects
    ``key={name: 1}`` and ``key.name=1``, as it has no ``name`` yet, unless they begin with ``++``.

    Args:
        words: Words of the command.
        folders: Folders of the configuration.
        compose: Composes the configuration of some words.
    """
    open_names = _open_names(folders)
    mappings = {word: _mapping(word, open_names) for word in words}
    if not any(mappings.values()):
        return list(words)
    others = [word for word in words if not mappings[word] and _is_override(word)]
    try:
        cfg = compose([_searchpath(folders[1:]), *map(_first_value, others)])
    except (HydraException, OmegaConfBaseException):  # another word is wrong, which Hydra reports
        return list(words)
    return [f"++{word}" if (key := mappings[word]) and _is_open(cfg, key) else word for word in words]


def _open_names(folders: Sequence[Path]) -> set[str]:
    """Names of the mappings that files of the configuration write as ``{}``."""
    files = (path for folder in folders for path in folder.rglob("*.yaml"))
    return {name for path in files for name in _EMPTY.findall(path.read_text(encoding="utf-8"))}


def _searchpath(folders: Sequence[Path]) -> str:
    """The override that adds folders to those of the configuration."""
    urls = ", ".join(f"'file://{folder.resolve()}'" for folder in folders)
    return f"hydra.searchpath=[{urls}]"


def _is_override(word: str) -> bool:
    """Whether a word sets a key that is not one of Hydra's own."""
    return "=" in word and not word.startswith(("-", "hydra."))


def _mapping(word: str, open_names: set[str]) -> str | None:
    """The key of the open mapping that a word may set, or set a name of."""
    match = _PLAIN.fullmatch(word)
    if match is None:
        return None
    above, _, name = match["key"].rpartition(".")
    if name in open_names and match["value"].lstrip().startswith("{"):
        return match["key"]
    return above if above.rpartition(".")[2] in open_names else None


def _first_value(word: str) -> str:
    """A word of a sweep with the first of its values; any other as it is."""
    parsed = OverridesParser.create().parse_override(word)
    return f"{parsed.get_key_element()}={next(parsed.sweep_string_iterator())}" if parsed.is_sweep_override() else word


def varied(task: Sequence[str], words: Sequence[str]) -> list[str]:
    """The overrides of a job whose keys the command sweeps.

    Example:
        >>> varied(["seed=1", "plan.patch=[8,8]"], ["-m", "seed=0,1", "plan.patch=[8, 8]"])
        ['seed=1']
    """
    parsed = [OverridesParser.create().parse_override(word) for word in words if "=" in word and word[0] != "-"]
    swept = {one.get_key_element() for one in parsed if one.is_sweep_override()}
    return [word for word in task if word.partition("=")[0] in swept]


def _is_open(cfg: DictConfig, key: str) -> bool:
    node = OmegaConf.select(cfg, key, throw_on_missing=False)
    return isinstance(node, DictConfig) and "_target_" not in node
