"""Configurations of users that name classes where earlier versions had them."""

from __future__ import annotations

import warnings
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.runtime import moved


def with_current_classes(cfg: DictConfig) -> DictConfig:
    """The configuration with today's class paths; a warning names each that moved."""
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    renamed = moved.with_current_classes(plain)
    if renamed == plain:
        return cfg
    for old in sorted(_targets(plain) & moved.CLASSES.keys()):
        warnings.warn(
            f"{old} is {moved.CLASSES[old]} now; change it in your configuration, as the old path will stop working",
            FutureWarning,
            stacklevel=2,
        )
    current = OmegaConf.create(renamed)
    OmegaConf.set_struct(current, OmegaConf.is_struct(cfg))
    return current


def _targets(value: object) -> set[str]:
    """Every ``_target_`` at any depth."""
    if isinstance(value, list):
        return set().union(*map(_targets, value))
    if not isinstance(value, dict):
        return set()
    own = {value["_target_"]} if isinstance(value.get("_target_"), str) else set()
    return own.union(*map(_targets, value.values()))
