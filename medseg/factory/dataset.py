"""The dataset that a configuration names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.data.dataset import Dataset, check_names
from medseg.data.datasets.several_observers import MAJORITY, SeveralObservers
from medseg.data.datasets.with_facts import WithFacts
from medseg.data.layout.case_table import CaseTable
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError, nearest, rename_keys
from medseg.factory.instantiate import instantiate
from medseg.hydra_app.compose import compose
from medseg.hydra_app.retired import replacement

_OF_TABLE = ("table", "table_key", "facts", "case_label")
_OF_EVERY_DATASET = ("name", "lateral_axis", "annotations", *_OF_TABLE)
"""Keys of ``data`` that need not be arguments of the class."""
_LABEL_FOLDERS = ("label_folder", "masks")


def build_dataset(cfg: DictConfig) -> Dataset:
    """The dataset of ``cfg.data``, whose keys are the arguments of its class; with the facts of ``cfg.data.table``.

    Keys that are no arguments but fields of ``ReadOptions`` say how files are read: they are given to the class as
    ``reading``, or set after it where it takes no such argument.

    Raises:
        InputError: A string where names are listed, a key that the class does not take, or whatever the dataset
            refuses.
    """
    _refuse_words(cfg.data)
    _check_lateral_axis(cfg.data)
    plain: Any = OmegaConf.to_container(cfg.data, resolve=True, throw_on_missing=True)
    of_table = {key: plain.pop(key, None) for key in _OF_TABLE}
    if isinstance(plain.get("parts"), dict):
        plain["parts"] = {str(name): _part(cfg, str(name), entry) for name, entry in plain["parts"].items()}
    return _with_facts(_of_observers(cfg, {"_convert_": "all"} | plain), **of_table)


def _of_observers(cfg: DictConfig, settings: dict[str, Any]) -> Dataset:
    """The dataset; where it names a folder of labels for each observer, with these joined.

    Raises:
        InputError: A rule and no such folders, or whatever ``SeveralObservers`` refuses.
    """
    rule = settings.pop("annotations", None)
    key = next((name for name in _LABEL_FOLDERS if isinstance(settings.get(name), Mapping)), None)
    if key is None and rule is not None:
        raise InputError(
            f"data.annotations={rule}: joins the labels of several observers; name their folders, as in "
            "data.label_folder={reader1: labels_a, reader2: labels_b} (of scenes and images data.masks)"
        )
    if key is None:
        return _of_files(settings)
    observers = {str(name): _of_files({**settings, key: folder}) for name, folder in settings[key].items()}
    folder = Path(cfg.cache_dir) / "annotations" / str(settings.get("name", "data"))
    return SeveralObservers(observers, rule or MAJORITY, folder)


def _with_facts(
    source: Dataset, *, table: str | None, table_key: str | None, facts: Any, case_label: str | None
) -> Dataset:
    """The dataset with the facts of a table; itself without one.

    Raises:
        InputError: Keys of a table without one, or whatever ``WithFacts.declared`` refuses.
    """
    if table is None:
        keys = {"table_key": table_key, "facts": facts, "case_label": case_label}
        if unused := [f"data.{key}" for key, value in keys.items() if value is not None]:
            raise InputError(f"{unused[0]}: names columns of data.table, which is null; add data.table=FILE.csv")
        return source
    rows = CaseTable.read(Path(table), key=table_key)
    return WithFacts.declared(source, rows, facts, case_label)


def _part(cfg: DictConfig, name: str, entry: object) -> Dataset:
    """One of the datasets of ``data.parts``: an option of ``data`` by its name, and keys of it.

    Raises:
        InputError: No such option or key, a key without a value, or what ``build_dataset`` refuses; names the part.
    """
    key, expected = f"data.parts.{name}", "{option: nnunet, root: DIR}, with keys of that option"
    if not isinstance(entry, dict) or entry.get("option") in (None, "joined"):
        raise InputError(f"{key}: got {str(entry)[:200]}, expected {expected}")
    own = {str(word): value for word, value in entry.items() if word != "option"}
    with rename_keys(("data.", f"{key}.")):
        declared = compose("train", [f"data={entry['option']}"]).data
        OmegaConf.set_struct(declared, False)
        _check_part(own, declared)
        if own.get("table") is not None:
            raise InputError(
                f"data.table={own['table']}: facts are those of all parts; give one table, data.table=FILE.csv"
            )
        return build_dataset(
            OmegaConf.create({"cache_dir": cfg.get("cache_dir"), "data": OmegaConf.merge(declared, own)})
        )


def _check_part(own: Mapping[str, object], declared: DictConfig) -> None:
    """Raise on keys that the option of a part lacks, and on its keys without a value."""
    keys = [str(word) for word in declared]
    if unknown := [word for word in own if word not in keys]:
        raise InputError(f"data.{unknown[0]}: no such key; {nearest(unknown[0], keys)}")
    if missing := [word for word in keys if OmegaConf.is_missing(declared, word) and word not in own]:
        raise InputError(f"data.{missing[0]} has no value; add it")


def _of_files(settings: dict[str, Any]) -> Dataset:
    """The dataset of these settings."""
    taken = inspect.signature(instantiate(settings, _partial_=True).func).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    apart = settings.keys() - taken.keys()
    reading = {f.name: settings.pop(f.name) for f in fields(ReadOptions) if f.name in apart}
    for key in {*_OF_EVERY_DATASET} - taken.keys():
        settings.pop(key, None)
    if not open_ended:
        _check_known(settings, list(taken))
    if "reading" in taken or open_ended:
        target = f"{ReadOptions.__module__}.{ReadOptions.__qualname__}.from_config"
        built: Dataset = instantiate({**settings, "reading": {"_target_": target, **reading}})
        return built
    built = instantiate(settings)
    if reading:
        built.reading = ReadOptions.from_config(**reading)
    return built


def _unknown(key: str, target: str, taken: Sequence[str]) -> str:
    """The line for a key that the class of the dataset does not take."""
    if new := replacement(key):
        return f"{key} is called {new} now"
    return f"{key} is no setting of {target}, which takes {', '.join(name for name in taken if name != 'reading')}"


def _check_lateral_axis(data: DictConfig) -> None:
    """Raise on an axis that an image does not have."""
    if (axis := data.get("lateral_axis")) not in (None, 0, 1):
        raise InputError(f"data.lateral_axis={axis}: choose 0 (rows), 1 (columns), or null where it is unknown")


def _check_known(settings: Mapping[str, Any], taken: Sequence[str]) -> None:
    """Raise on a key that is no argument of the class."""
    unknown = [key for key in settings if not key.startswith("_") and key not in taken]
    if unknown:
        raise InputError(_unknown(f"data.{unknown[0]}", settings["_target_"], taken))


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
