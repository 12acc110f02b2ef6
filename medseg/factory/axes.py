"""Which options of networks are for images and which for volumes, as their classes declare it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra.utils
from omegaconf import OmegaConf

from medseg.hydra_app.conf import conf_dirs


def options_for(group: str, ndim: int) -> list[str]:
    """Options of a group that take images of so many axes, those of plug-ins last; sizes of a network are left out."""
    paths = [path for folder in conf_dirs() for path in sorted((folder / group).glob("*.yaml"))]
    return [path.stem for path in paths if "_target_" in OmegaConf.load(path) and ndim in ndims_of(group, path.stem)]


def ndims_of(group: str, option: str) -> tuple[int, ...]:
    """Numbers of axes that an option is for, with the encoder and the decoder that it chooses.

    Args:
        group: ``model``, ``model/encoder`` or ``model/decoder``.
        option: Name of a file of the group, with a class of its own or that of the option that it builds on.
    """
    loaded: Any = OmegaConf.to_container(OmegaConf.load(_file(group, option)), resolve=False)
    entries = loaded.get("defaults", [])
    if "_target_" in loaded:
        own = tuple(getattr(hydra.utils.get_object(loaded["_target_"]), "ndims", (2, 3)))  # functions return either
    else:
        own = ndims_of(group, next(entry for entry in entries if isinstance(entry, str) and entry != "_self_"))
    parts = [ndims_of(f"{group}/{key}", choice) for key, choice in _choices(entries)]
    return tuple(n for n in own if all(n in part for part in parts))


def _choices(entries: Sequence[object]) -> Iterator[tuple[str, str]]:
    """Option of each group that the defaults of a file choose, without those that are built into an encoder."""
    for entry in entries:
        if isinstance(entry, dict):
            yield from ((key, choice) for key, choice in entry.items() if "@" not in key)


def _file(group: str, option: str) -> Path:
    return next(path for folder in conf_dirs() if (path := folder / group / f"{option}.yaml").is_file())
