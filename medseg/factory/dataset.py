"""The dataset that a configuration names."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

from omegaconf import DictConfig, open_dict

from medseg.data.dataset import Dataset, check_names
from medseg.errors import InputError
from medseg.factory.instantiate import instantiate


def build_dataset(cfg: DictConfig) -> Dataset:
    """The dataset of ``cfg.data``.

    How files are read is given to its constructor (``reading``), or set after it where that takes no such argument.

    Raises:
        InputError: A word where names are listed, or whatever the dataset refuses.
    """
    _refuse_words(cfg.data)
    if (axis := cfg.data.get("lateral_axis")) not in (None, 0, 1):
        raise InputError(f"data.lateral_axis={axis}: choose 0 (rows), 1 (columns), or null where it is unknown")
    settings = cfg.data.dataset
    taken = inspect.signature(instantiate(settings, _partial_=True).func).parameters.values()
    named = any(p.name == "reading" or p.kind is p.VAR_KEYWORD for p in taken)
    if named or "reading" not in settings:
        built: Dataset = instantiate(settings)
        return built
    bare = copy.deepcopy(cfg)
    with open_dict(bare):
        del bare.data.dataset.reading
    built = instantiate(bare.data.dataset)
    built.reading = instantiate(settings.reading)
    return built


def _refuse_words(data: DictConfig) -> None:
    """Refuse a word where names are listed, as a shell without quotes leaves one, and numbers instead of names."""
    for key, kind, example in (
        ("labels", "class names with their values", "'data.labels={background: 0, tumour: 1}'"),
        ("channels", "a list", "'data.channels=[CT]'"),
    ):
        if isinstance(data.get(key), str):
            raise InputError(
                f"data.{key}={data[key]}: expected {kind}, in quotes, as the shell has its own use for brackets "
                f"and braces: {example}"
            )
    check_names(data.get("channels") or ())


def store_dir(cfg: DictConfig, source: Dataset) -> Path:
    """Folder of the dataset's patch store."""
    return Path(cfg.cache_dir) / "store" / source.name
