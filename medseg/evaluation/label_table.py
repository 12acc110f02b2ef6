"""The label table of an evaluation: declared names, or those of a dataset.json next to the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg import formats
from medseg.errors import InputError, rename_keys
from medseg.evaluation.pairs import label_files
from medseg.labels import LabelTable
from medseg.labels.declared import by_name


def label_table(cfg: DictConfig) -> LabelTable | None:
    """Declared names, else those of a dataset.json in the folder of the labels or the one above; None without either.

    Args:
        cfg: Configuration of the evaluation.

    Raises:
        InputError: The background is no class, or classes that share values have none.
    """
    if cfg.names is not None:
        return _declared(cfg)
    folder = Path(next(iter(cfg.labels.values())) if OmegaConf.is_dict(cfg.labels) else cfg.labels)
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            return _of_dataset(cfg, path)
    if cfg.background not in ("auto", None):
        raise InputError(
            f"background={cfg.background} names a class, but there are none; give names={{NAME: value, ...}}"
        )
    return None


def _declared(cfg: DictConfig) -> LabelTable:
    """The table of ``cfg.names``."""
    declared: Any = OmegaConf.to_container(cfg.names)
    with rename_keys(("data.labels", "names")):
        names = by_name(declared)
    background = _background(cfg, list(names))
    if not _overlap(names):
        return LabelTable.declare(names, merge=True, background=background)
    if background is None:
        raise InputError(
            "names: classes that share values are regions, which need a background; add background: 0 to names"
        )
    painted = [_values(v)[0] for n, v in names.items() if n not in (background, "ignore")]
    return LabelTable.declare(names, regions_class_order=painted, background=background)


def _of_dataset(cfg: DictConfig, path: Path) -> LabelTable:
    """The table of a dataset.json."""
    from medseg.data.datasets.nnunet import declared_spec, read_declaration  # only here: it imports torch

    table = declared_spec(read_declaration(path, ["labels"]), path).labels
    if cfg.background not in ("auto", None, table.names[0]):
        raise InputError(f"background={cfg.background}: in {path} it is {table.names[0]}; give names= to change it")
    return table if cfg.background is not None else replace(table, background=False)


def _values(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _overlap(names: Mapping[str, int | Sequence[int]]) -> bool:
    """Whether a raw value belongs to several names, which then are regions as in training."""
    every = [v for value in names.values() for v in set(_values(value))]
    return len(set(every)) < len(every)


def _background(cfg: DictConfig, names: list[str]) -> str | None:
    """Which of the declared classes is not scored; None if all are."""
    if cfg.background not in ("auto", None, *names):
        raise InputError(f"background={cfg.background} is no class, the names are {names}; choose one, auto or null")
    if cfg.background != "auto":
        return cfg.background
    labels = Path(cfg.labels)
    paths = [labels] if labels.is_file() else label_files(labels, shapes=True).values()
    flat = not any(formats.suffix(path) in formats.suffixes("volume") for path in paths)
    return None if flat and "background" not in names else "background"
