"""Resuming: which settings a command must share with the run that it continues, and which it may change."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg import checkpoint
from medseg.errors import InputError
from medseg.factory.class_weights import WORDS
from medseg.runtime.values import leaves

_LOG = logging.getLogger(__name__)

_NETWORK = ("model", "temporal", "finetuning")
_FREE = re.compile(
    r"(run_dir|cache_dir|ckpt_path|checkpoint_minutes|name|test|judged|temperature_scaling|weights|least_share|accept|"
    r"rerun|trust|verify_files|engine|logger|hydra|sweep|experiment|"
    r"data\.(root|cache)|loader\.workers|callback\.(previews|progress|reconstructions)|plan\.(file|memory_gb)|"
    r"trainer\.(max_steps|max_epochs|max_time|accelerator|devices|num_nodes|strategy|log_every_n_steps))(\..*)?"
)
"""Keys of paths, budgets, devices and loggers: they do not decide what is learned."""
_LOADS_ALIKE = re.compile(
    r".*\.(weights|adapt|least_share|.*drop.*|.*checkpoint.*|encoder_lr_scale|layer_decay|head_warmup|gradual_unfreeze|alpha)"
)
"""Keys of a network and its fine-tuning that do not change the shapes of its weights."""
_FROM_DATA = ("auto", *WORDS)
"""Values in whose place a run stores what they became."""
_SHOWN = 8


def check(cfg: DictConfig, resumed: Path, *, warn: bool = True) -> None:
    """Compare a resolved configuration with that of the checkpoint which it resumes; no data is read.

    Args:
        cfg: The configuration of the command, resolved.
        resumed: The checkpoint.
        warn: Log a warning about settings that differ, and a note if the budget is spent already.

    Raises:
        InputError: The file is no checkpoint of medseg, or that of another network.
    """
    loaded = checkpoint.read(resumed)
    now: Any = OmegaConf.to_container(cfg, resolve=True)
    differing = dict(differences(loaded.metadata.config, now))
    network = [key for key, values in differing.items() if _of_network(key, values)]
    if network:
        listed = "; ".join(_changed(key, differing[key]) for key in _leading(network)[:_SHOWN])
        raise InputError(
            f"ckpt_path={resumed}: the run was trained with another network ({listed}); leave these settings as they "
            "were (config.yaml of the run has them), or train in another run_dir, with weights= to begin with these"
        )
    if not warn:
        return
    if differing:
        listed = _first_changes(differing)
        _LOG.warning("settings differ from those of %s: %s", resumed, listed)
    step, most = loaded.step, int(cfg.trainer.max_steps)
    if 0 < most <= step:
        _LOG.info("already at step %d of %d; trainer.max_steps=N trains on to step N", step, most)


def _of_network(key: str, values: tuple[object, object]) -> bool:
    """Whether a setting with these two values makes two networks of it; false and a missing key are the same."""
    if key == "presence":
        return any(values)
    return key.partition(".")[0] in _NETWORK and not _LOADS_ALIKE.fullmatch(key)


def _first_changes(differing: Mapping[str, Any]) -> str:
    """The first settings that differ, in words, and how many more there are."""
    listed = ", ".join(_changed(key, values) for key, values in list(differing.items())[:_SHOWN])
    return listed + (f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else "")


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> Iterator[tuple[str, tuple[object, object]]]:
    """Keys, with dots, in which two configurations differ and that decide what is trained; the two values of each.

    A missing key counts as null; ``auto``, and other words for what the data decide, equal any value.

    Example:
        >>> dict(differences({"run_dir": "a", "optimizer": {"lr": 0.1}}, {"run_dir": "b", "optimizer": {"lr": 1}}))
        {'optimizer.lr': (0.1, 1)}
    """
    old, new = dict(leaves(before)), dict(leaves(now))
    decided = tuple(f"{key}." for key, value in new.items() if value in _FROM_DATA)
    for key in dict.fromkeys([*new, *old]):
        values = old.get(key), new.get(key)
        if values[1] in _FROM_DATA or key.startswith(decided):
            continue
        if values[0] != values[1] and not _FREE.fullmatch(key):
            yield key, values


def _leading(keys: list[str]) -> list[str]:
    """Only the keys of classes if there are any: the other settings of a class differ with it."""
    return [key for key in keys if key.endswith("_target_")] or keys


def _changed(key: str, values: tuple[object, object]) -> str:
    return f"{key} {_short(values[0])} -> {_short(values[1])}"


def _short(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
