"""Local paths: files are read from the file system alone, which is said before a path is taken apart."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/vsi\w+/")
_KEYS = (
    "run_dir", "cache_dir", "ckpt_path", "plan.file", "data.root", "data.images", "data.masks", "data.valid",
    "data.label_folder", "data.test_images", "data.test_masks", "data.test_valid", "split.file", "data.groups",
    "checkpoint", "run", "runs", "input", "output", "predictions", "labels", "images", "valid",
)  # fmt: skip


def check_local(cfg: DictConfig) -> None:
    """Refuse ``s3://bucket/folder``, ``https://...`` and GDAL's ``/vsizip/...`` where a local path is expected.

    Args:
        cfg: Of any command.

    Raises:
        InputError: Names the key and the path.
    """
    for key in _KEYS:
        value = OmegaConf.select(cfg, key, throw_on_missing=False)
        for path in _paths(value):
            if isinstance(path, str) and _REMOTE.match(path):
                raise InputError(
                    f"{key}={path}: remote and virtual paths are not read; download the files, or mount the storage, "
                    "and give the local path"
                )


def _paths(value: Any) -> list[Any]:
    """The paths of a setting: itself, those of a list, or those of image groups."""
    if OmegaConf.is_dict(value):
        return list(value.values())
    return list(value) if OmegaConf.is_list(value) else [value]
