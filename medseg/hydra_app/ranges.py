"""Ranges: which numbers and words a key of the configuration may hold, checked before torch is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError


@dataclass(frozen=True)
class Range:
    """Numbers that a key may hold; of a key that holds a list, each of its numbers.

    Attributes:
        low: Least number.
        high: Largest number.
        integer: Whether the number has to be an integer.
        open_low: Whether ``low`` itself is excluded.
        open_high: Whether ``high`` itself is excluded.
        also: Further values, such as ``auto``, or -1 for no limit.

    Example:
        >>> Range(0, 1, open_high=True).expected
        'a number >= 0 and < 1'
        >>> Range(1, integer=True, also=(-1,)).expected
        'an integer >= 1, or -1'
    """

    low: float = -math.inf
    high: float = math.inf
    integer: bool = False
    open_low: bool = False
    open_high: bool = False
    also: tuple[object, ...] = ()

    def holds(self, value: object) -> bool:
        """Whether the value is one of these."""
        if isinstance(value, (str, bool)) or not isinstance(value, (int, float)):
            return value in self.also and not isinstance(value, bool)
        if value in self.also:
            return True
        if not math.isfinite(value) or (self.integer and value != int(value)):
            return False
        return self._within(value)

    def _within(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    @property
    def expected(self) -> str:
        """What is expected, for messages."""
        bounds = []
        if self.low > -math.inf:
            bounds.append(f"{'>' if self.open_low else '>='} {self.low}")
        if self.high < math.inf:
            bounds.append(f"{'<' if self.open_high else '<='} {self.high}")
        kind = "an integer" if self.integer else "a number"
        others = "".join(f", or {word}" for word in self.also)
        return f"{kind} {' and '.join(bounds)}".rstrip() + others


COUNT = Range(0, integer=True)
AT_LEAST_ONE = Range(1, integer=True)
SEED = Range(0, 2**32 - 1, integer=True)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, open_low=True)
FINITE = Range()
FRACTION = Range(0, 1)
LIMIT = Range(1, integer=True, also=(-1,))

NUMBERS: Mapping[str, Range] = {
    "seed": SEED,
    "least_share": FRACTION,
    "polygon_min_area_m2": NOT_NEGATIVE,
    "polygon_min_cells": COUNT,
    "polygon_simplify_m": NOT_NEGATIVE,
    "split.fold": Range(0, integer=True, also=("all",)),
    "split.n_folds": Range(2, integer=True),
    "split.seed": SEED,
    "split.blocks.size": AT_LEAST_ONE,
    "split.blocks.buffer": COUNT,
    "split.runs": AT_LEAST_ONE,
    "split.gap": COUNT,
    "split.most_cases": AT_LEAST_ONE,
    "split.n_labelled": AT_LEAST_ONE,
    "sampling.foreground_fraction": FRACTION,
    "sampling.class_balance_exponent": Range(0, 10),
    "sampling.min_valid": Range(0, 1, also=("auto",)),
    "loader.workers": Range(0, 1024, integer=True, also=("auto",)),
    "data.grid_tolerance": NOT_NEGATIVE,
    "data.n_cases": Range(2, integer=True),
    "data.n_scenes": AT_LEAST_ONE,
    "data.n_test": COUNT,
    "data.n_dates": AT_LEAST_ONE,
    "data.dates.slots": AT_LEAST_ONE,
    "data.dates.in_file": AT_LEAST_ONE,
    "data.shape": AT_LEAST_ONE,
    "data.seed": SEED,
    "plan.spacing": POSITIVE,
    "plan.patch": AT_LEAST_ONE,
    "plan.batch_size": AT_LEAST_ONE,
    "plan.mean": FINITE,
    "plan.std": POSITIVE,
    "plan.memory_gb": POSITIVE,
    "inference.overlap": Range(0, 1, open_high=True),
    "inference.batch_size": AT_LEAST_ONE,
    "method.mask_ratio": Range(0, 1, open_low=True, open_high=True),
    "method.mask_patch_size": AT_LEAST_ONE,
    "method.consistency": NOT_NEGATIVE,
    "method.weight": NOT_NEGATIVE,
    "method.temperature": POSITIVE,
    "method.rise": FRACTION,
    "method.decay": Range(0, 1, open_high=True),
    "method.decoder_embed_dim": AT_LEAST_ONE,
    "method.decoder_depth": AT_LEAST_ONE,
    "optimizer.lr": NOT_NEGATIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.momentum": FRACTION,
    "scheduler.warmup": FRACTION,
    "scheduler.final": FRACTION,
    "scheduler.power": NOT_NEGATIVE,
    "metric.nsd_tolerance": NOT_NEGATIVE,
    "metric.boundary_width": POSITIVE,
    "metric.object_min_volume": NOT_NEGATIVE,
    "metric.lesion_overlap": FRACTION,
    "metric.lesion_sizes": POSITIVE,
    "metric.calibration_bins": Range(1, 1000, integer=True),
    "metric.resamples": AT_LEAST_ONE,
    "metric.seed": SEED,
    "trainer.max_steps": LIMIT,
    "trainer.max_epochs": LIMIT,
    "trainer.steps_per_epoch": AT_LEAST_ONE,
    "trainer.gradient_clip_val": NOT_NEGATIVE,
    "trainer.check_val_every_n_epoch": AT_LEAST_ONE,
    "trainer.accumulate_grad_batches": AT_LEAST_ONE,
    "early_stopping.patience": AT_LEAST_ONE,
    "early_stopping.min_delta": NOT_NEGATIVE,
    "checkpoint_minutes": Range(0, open_low=True),
    "method.val_patches": COUNT,
    "trainer.num_sanity_val_steps": Range(-1, integer=True),
    "trainer.log_every_n_steps": COUNT,
    "trainer.num_nodes": AT_LEAST_ONE,
    "callback.previews.cases": COUNT,
    "sweep.trials": AT_LEAST_ONE,
    "sweep.startup": AT_LEAST_ONE,
    "engine.processes": AT_LEAST_ONE,
    "engine.workers": AT_LEAST_ONE,
    "engine.attempts": AT_LEAST_ONE,
    "engine.timeout": POSITIVE,
    # medseg-predict, medseg-evaluate and medseg-export
    "overlap": Range(0, 1, open_high=True),
    "grid_tolerance": NOT_NEGATIVE,
    "nsd_tolerance": NOT_NEGATIVE,
    "boundary_width": POSITIVE,
    "object_min_volume": NOT_NEGATIVE,
    "lesion_overlap": FRACTION,
    "lesion_sizes": POSITIVE,
    "tolerance": NOT_NEGATIVE,
    # medseg-select
    "alpha": Range(0, 1, open_low=True, open_high=True),
    "sizes": POSITIVE,
}
"""Numbers by key; null is allowed wherever the configuration has it."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "judged": ("best", "last"),
    "verify_files": ("quick", "full"),
    "missing": ("error", "skip"),
    "scores": ("auto", "full", "scene"),
    "metric.object_connectivity": ("faces", "corners"),
    "object_connectivity": ("faces", "corners"),
    "engine.jobqueue": ("slurm", "pbs"),
    "data.nonfinite": ("error", "mask"),
    "data.normalisation": ("zscore", "ct", "standard", "percentile", "unit_range", "rgb", "none"),
    "plan.normalisation": ("zscore", "ct", "standard", "percentile", "unit_range", "rgb", "none"),
}
"""Words by key."""
COMMAND_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "export": {"format": ("onnx", "pt2", "monai")},
    "predict": {"format": ("dicom_seg",)},
}
"""Words by command and key, of keys that have other words in another command."""
_CLASS_PATHS = ("data.normalisation", "plan.normalisation")
"""Keys whose words may also be the path of a class, such as ``my_package.schemes.Log``."""

_NOT_FINITE = ("data.nodata",)
"""Keys that may be NaN or infinite: values that cells of a file may have."""


def check_ranges(cfg: DictConfig, command: str = "") -> None:
    """Raise if a number or word can't be used by any training, plan, prediction or evaluation.

    Keys that the configuration does not have are skipped, and so are null and missing values.

    Args:
        cfg: Configuration of any command.
        command: Name of the command's configuration, such as ``predict``; without it words of single commands pass.

    Raises:
        InputError: Names the key, its value and the expected values.
    """
    for key, value in leaves(OmegaConf.to_container(cfg, resolve=False), ""):
        if isinstance(value, float) and not math.isfinite(value) and key not in _NOT_FINITE:
            raise InputError(f"{key}={value}: expected a finite number")
    for key, allowed in NUMBERS.items():
        for value in _values(cfg, key):
            if not allowed.holds(value):
                raise InputError(f"{key}={_shown(cfg, key)}: expected {allowed.expected}")
    _check_words(cfg, {**WORDS, **COMMAND_WORDS.get(command, {})})


def _check_words(cfg: DictConfig, by_key: Mapping[str, tuple[str, ...]]) -> None:
    """Raise on a word that is none of those of its key."""
    for key, words in by_key.items():
        for value in _values(cfg, key):
            if value not in words and not (key in _CLASS_PATHS and "." in str(value)):
                further = ", or the path of a class of yours" if key in _CLASS_PATHS else ""
                raise InputError(f"{key}={_shown(cfg, key)}: expected one of {', '.join(words)}{further}")


def leaves(node: object, at: str) -> Iterator[tuple[str, object]]:
    """Every value with its key; all elements of a list have its key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{at}.{key}" if at else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value, at)
    else:
        yield at, node


def _values(cfg: DictConfig, key: str) -> list[object]:
    """The value of a key, or those of its list; empty where it has none."""
    value = _selected(cfg, key)
    return [v for v in (value if isinstance(value, list) else [value]) if v is not None]


def _selected(cfg: DictConfig, key: str) -> object:
    value = OmegaConf.select(cfg, key, throw_on_missing=False)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _shown(cfg: DictConfig, key: str) -> str:
    return str(_selected(cfg, key)).replace(" ", "")
