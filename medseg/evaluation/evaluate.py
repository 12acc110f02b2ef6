"""Scores of predicted label files against reference label files; no model needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError, rename_keys
from medseg.runtime.console import show

if TYPE_CHECKING:
    from medseg.labels import LabelTable

_LOG = logging.getLogger(__name__)


_ADD_IN_TRAINING = "add them to data.labels, or to its ignore list"
_ADD_HERE = "add them to names: as a class of their own, to the background (background: [0, 5]), or as ignore: 5"


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Judge the files of ``cfg.predictions`` against those of ``cfg.labels``.

    Returns:
        The content of ``metrics.json``.

    Raises:
        InputError: Files without a partner, on other grids, or with values outside the table.
    """
    from medseg.runtime import verbosity

    verbosity.settle()  # before what follows is imported
    from medseg.evaluation.folders import evaluate_folders
    from medseg.evaluation.pairs import Shapes
    from medseg.metrics.registry import setting_keys

    output, table = Path(cfg.output), _table(cfg)
    metrics: Any = None if cfg.metrics is None else OmegaConf.to_container(cfg.metrics, resolve=True)
    with rename_keys((_ADD_IN_TRAINING, _ADD_HERE), ("data.labels", "names")):
        result = evaluate_folders(
            Path(cfg.predictions),
            Path(cfg.labels),
            output,
            table,
            images=None if cfg.images is None else Path(cfg.images),
            valid=None if cfg.valid is None else Path(cfg.valid),
            ignore=cfg.ignore,
            background=cfg.background is not None,
            scores=cfg.scores,
            metrics=metrics,
            missing=cfg.missing,
            grid_tolerance=cfg.grid_tolerance,
            shapes=Shapes(cfg.attribute, cfg.layer, cfg.all_touched),
            **{key: cfg[key] for key in setting_keys() if key in cfg},
        )
    show(_LOG, f"Written: {output}/metrics.json, {output}/cases.csv, {output}/report.html")
    if table is None:
        show(_LOG, "Classes are called after their values: 'names={background: 0, liver: 1, ignore: 255}' names yours")
    return result


def _table(cfg: DictConfig) -> LabelTable | None:
    """Declared names, else those of a dataset.json in the folder of the labels or the one above."""
    from medseg.labels import LabelTable
    from medseg.labels.declared import by_name

    if cfg.names is not None:
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
    folder = Path(cfg.labels)
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if path.is_file():
            from medseg.data.datasets.nnunet import declared_spec, read_declaration  # only here: it imports torch

            table = declared_spec(read_declaration(path, ["labels"]), path).labels
            if cfg.background not in ("auto", None, table.names[0]):
                raise InputError(
                    f"background={cfg.background}: in {path} it is {table.names[0]}; give names= to change it"
                )
            return table if cfg.background is not None else replace(table, background=False)
    if cfg.background not in ("auto", None):
        raise InputError(
            f"background={cfg.background} names a class, but there are none; give names={{NAME: value, ...}}"
        )
    return None


def _values(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _overlap(names: Mapping[str, int | Sequence[int]]) -> bool:
    """Whether a raw value belongs to several names, which then are regions as in training."""
    every = [v for value in names.values() for v in set(_values(value))]
    return len(set(every)) < len(every)


def _background(cfg: DictConfig, names: list[str]) -> str | None:
    """Which of the declared classes is not scored; None if all are."""
    from medseg import formats
    from medseg.evaluation.pairs import label_files

    if cfg.background not in ("auto", None, *names):
        raise InputError(f"background={cfg.background} is no class, the names are {names}; choose one, auto or null")
    if cfg.background != "auto":
        return cfg.background
    labels = Path(cfg.labels)
    found = [labels] if labels.is_file() else label_files(labels, shapes=True).values()
    flat = not any(formats.suffix(path) in formats.suffixes("volume") for path in found)
    return None if flat and "background" not in names else "background"
