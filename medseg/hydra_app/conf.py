"""The folders of the configuration, and one composed from them without checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from medseg.errors import InputError
from medseg.hydra_app.caching import enable_caching
from medseg.runtime.plugins import plugins

GROUP = "medseg.conf"
"""Group of entry points: each names a package whose folder ``conf`` holds options (``conf/model/my_net.yaml``)."""


def conf_dir() -> Path:
    """Folder of the configuration: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def conf_dirs() -> list[Path]:
    """``conf_dir``, then the folders of options of installed plug-ins, none of which is imported.

    Raises:
        InputError: A plug-in without such a folder, or with an option that exists already; names its package.
    """
    folders = [conf_dir()]
    owners: dict[str, str] = {}
    for plugin in plugins(GROUP):
        folder = plugin.folder() / "conf"
        if not folder.is_dir():
            raise InputError(f"{plugin}: {folder} does not exist, expected a folder of options; {plugin.fix}")
        owners = owners or dict.fromkeys(_files(folders[0]), "medseg itself")
        for name in _files(folder):
            if name in owners:
                group, _, option = name.rpartition("/")
                raise InputError(
                    f"{plugin}: its option {group}={option} exists already in {owners[name]}; rename "
                    f"{folder / name}.yaml, or uninstall {plugin.package}"
                )
            owners[name] = str(plugin)
        folders.append(folder)
    return folders


def _files(folder: Path) -> list[str]:
    """Every option of a folder with its group, such as ``model/unet``."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


class _PluginOptions(SearchPathPlugin):
    """Hydra finds the options of plug-ins, after those of medseg."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in conf_dirs()[1:]:
            search_path.append("plug-in", f"file://{folder}")


def find_plugin_options() -> None:
    """Let Hydra find the options of plug-ins from now on, in this process.

    Raises:
        InputError: See ``conf_dirs``.
    """
    conf_dirs()
    enable_caching()
    if _PluginOptions not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(_PluginOptions)


def composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration, without Hydra's own part."""
    find_plugin_options()
    running = GlobalHydra.instance().hydra  # of the command that is being run, if any
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return hydra.compose(config_name, overrides=list(overrides))
    finally:
        GlobalHydra.instance().hydra = running


def flattened(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key with dots, and its value; inner nodes too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}", value
            yield from flattened(value, f"{prefix}{key}.")
