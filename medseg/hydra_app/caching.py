"""What Hydra would repeat for each of its compositions, of which a command makes two or three, is done once."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, cast

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

_Load = Callable[[ConfigSource, str], ConfigResult]
_Join = Callable[[ConfigLoaderImpl, list[ResultDefault], IConfigRepository], DictConfig]
_Choices = Callable[[defaults_list.Overrides, list[InputDefault], bool], DictConfig]


def enable_caching() -> None:
    """Let Hydra parse each file once, and share its store of structured configurations, from now on in this process.

    Hydra parses every file again for each composition, and copies the whole store, a singleton that nothing changes,
    for each composition and for each group that ``--help`` lists. Without both ``medseg-train --help`` takes 0.5 s of
    CPU longer, a misspelt key 0.1 s (Intel Xeon). For each of some 40 files it also writes down all that was chosen so
    far, for names such as ``${model}`` in lists of defaults, of which most files have none: a third of a composition.
    Another third joins the files, which are the same in the two or three compositions of a command.
    """
    sources = (cast(type[ConfigSource], source) for source in Plugins.instance().discover(ConfigSource))
    files = next(source for source in sources if source.scheme() == "file")
    if hasattr(files.load_config, "__wrapped__"):
        return
    files.load_config = _cached(files.load_config)  # type: ignore[assignment]
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    join = _joined_once(ConfigLoaderImpl._compose_config_from_defaults_list)
    ConfigLoaderImpl._compose_config_from_defaults_list = join  # type: ignore[assignment]
    choices = _where_asked(defaults_list._create_interpolation_map)
    defaults_list._create_interpolation_map = choices  # type: ignore[assignment]


def _cached(load: _Load) -> _Load:
    """The function that reads a file of the configuration, with a copy of an earlier result while the file is as then.

    Hydra takes the list of defaults out of what it gets, so that every caller needs a copy of its own.
    """
    results: dict[tuple[str, str, str], tuple[tuple[int, int], bytes]] = {}

    @wraps(load)
    def cached(source: ConfigSource, config_path: str) -> ConfigResult:
        path = Path(source.path, source._normalize_file_name(config_path))
        try:
            status = path.stat()
        except OSError:  # Hydra has the words for it
            return load(source, config_path)
        state = (status.st_mtime_ns, status.st_size)
        key = (source.provider, source.path, config_path)
        if key not in results or results[key][0] != state:
            results[key] = (state, pickle.dumps(load(source, config_path)))
        result = cast(ConfigResult, pickle.loads(results[key][1]))  # an eighth of the time of copy.deepcopy
        result.state = (*key, *state)  # type: ignore[attr-defined]
        return result

    return cached


def _joined_once(join: _Join) -> _Join:
    """The function that joins files in the order of a list of defaults, with a copy of an earlier result of the same.

    What is no file, of Hydra and of structured configurations, stays as it is until something is stored.
    """
    results: dict[tuple[object, ...], bytes] = {}
    store = ConfigStore.store

    @wraps(store)
    def stored(*args: Any, **kwargs: Any) -> None:
        results.clear()
        store(*args, **kwargs)

    ConfigStore.store = stored  # type: ignore[method-assign]

    @wraps(join)
    def joined(loader: ConfigLoaderImpl, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        states = [getattr(repo.load_config(str(entry.config_path)), "state", None) for entry in defaults]
        sources = [(source.provider, source.path) for source in repo.get_sources()]
        key = tuple((repr(entry), state) for entry, state in zip(defaults, states, strict=True)), tuple(sources)
        if key not in results:
            results[key] = pickle.dumps(join(loader, defaults, repo))
        return cast(DictConfig, pickle.loads(results[key]))

    return joined


def _where_asked(choices: _Choices) -> _Choices:
    """The function that gives the choices so far, which gives none where no entry of the list of defaults names one."""

    @wraps(choices)
    def asked(overrides: defaults_list.Overrides, entries: list[InputDefault], self_added: bool) -> DictConfig:
        if any(not entry.is_self() and entry.is_interpolation() for entry in entries):
            return choices(overrides, entries, self_added)
        return OmegaConf.create()

    return asked
