"""Options and keys of earlier versions, each with the one that took its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.hydra_app.conf import flattened
from medseg.runtime import moved

OPTIONS = {
    "model=segmenter": "model=encoder_decoder",
    **{f"data.strategy={name}": f"sampling={name}" for name in ("case", "area", "class", "group")},
}
"""Old option, or key with its value -> today's option."""


def replacement(word: str) -> str | None:
    """Today's name of an option (``group=option``) or of a key; None if it has not changed.

    Example:
        >>> replacement("model=segmenter"), replacement("peft.rank"), replacement("model=unet")
        ('model=encoder_decoder', 'finetuning.rank', None)
        >>> replacement("finetuning.thaw"), replacement("peft.rate")
        ('finetuning.gradual_unfreeze', 'finetuning.encoder_lr_scale')
        >>> replacement("data.blocks.size"), replacement("data.strategy=area")
        ('split.blocks.size', 'sampling=area')
    """
    if word in OPTIONS:
        return OPTIONS[word]
    key = word.partition("=")[0]
    group, dot, rest = key.partition(".")
    renamed = f"{moved.GROUPS.get(group, group)}{dot}{rest}"
    renamed = moved.KEYS.get(renamed, renamed)
    if group == "data":
        name, dot, inner = rest.partition(".")
        renamed = f"{moved.DATA_KEYS.get(f'data.{name}', f'data.{name}')}{dot}{inner}" if name else key
    return None if renamed == key else renamed


def check_retired(cfg: DictConfig, folders: Sequence[Path] = ()) -> None:
    """Refuse a composed configuration that holds a key of an earlier version, as a file of the user may.

    A dataset of the user may take an argument of such a name, and keeps it.

    Args:
        cfg: Configuration of any command.
        folders: Folders with the user's own options.

    Raises:
        InputError: Names the file, if one of these folders holds it, the key, and the one that took its place.
    """
    content: Any = OmegaConf.to_container(cfg, resolve=False)
    values = dict(flattened(content))
    for key in [*moved.GROUPS, *_own_keys(content)]:
        new = replacement(key)
        if key not in values or new is None or new.partition(".")[0] not in content:
            continue
        where = "".join(f"{path}: " for path in _files_with(key, folders)[:1])
        if key == "data.dataset":
            raise InputError(
                f"{where}data.dataset: the class of a dataset and its arguments stand directly under data now, each "
                "once: data._target_, data.root and so on; move them up"
            )
        word = f"{key}={values[key]}"
        raise InputError(f"{where}{word if word in OPTIONS else key} is called {OPTIONS.get(word, new)} now")


def _own_keys(content: Mapping[str, object]) -> list[str]:
    """Old keys that a configuration may not hold: those of groups whose class is not one of the user's."""
    keys = [*moved.KEYS, *(key for key in moved.DATA_KEYS if "split" in content and key != "data.dataset")]
    groups = {key: content.get(key.partition(".")[0]) for key in keys}
    own = [key for key, group in groups.items() if _is_of_medseg(group)]
    data = content.get("data")
    before = isinstance(data, dict) and "split" in content and "_target_" not in data
    return ["data.dataset", *own] if before else own


def _is_of_medseg(group: object) -> bool:
    """Whether a group has settings of a class of medseg, or names no class."""
    return isinstance(group, dict) and str(group.get("_target_", "medseg.")).startswith("medseg.")


def _files_with(key: str, folders: Sequence[Path]) -> list[Path]:
    """Files of options that hold a key, by its place in the configuration (``@package _global_``) or in its group."""
    paths = []
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            group = ".".join(path.relative_to(folder).parent.parts)
            keys = {inner for inner, _ in flattened(content)}
            if key in keys or key in {f"{group}.{inner}" for inner in keys}:
                paths.append(path)
    return paths
