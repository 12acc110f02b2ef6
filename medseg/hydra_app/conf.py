"""The folder of the configuration, and one composed from it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig


def conf_dir() -> Path:
    """Folder of the configuration: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def composed(config_name: str, overrides: Sequence[str], *, whole: bool = False) -> DictConfig:
    """The configuration; ``whole``: with Hydra's own part of it."""
    running = GlobalHydra.instance().hydra  # of the command that is being run, if any
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return hydra.compose(config_name, overrides=list(overrides), return_hydra_config=whole)
    finally:
        GlobalHydra.instance().hydra = running


def flattened(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with dots, and its value; inner nodes too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}", value
            yield from flattened(value, f"{prefix}{key}.")
