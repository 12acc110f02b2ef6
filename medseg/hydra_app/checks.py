"""Checks of a composed configuration: missing keys, and words instead of numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from omegaconf import MISSING, DictConfig, OmegaConf

from medseg.errors import InputError
from medseg.hydra_app.conf import composed, conf_dirs, flattened


def check_given(cfg: DictConfig, choices: Mapping[str, object], config_name: str) -> None:
    """Raise if required keys (``???``) are missing.

    Args:
        cfg: The configuration.
        choices: Option of each group, as ``data`` and ``volumes``.
        config_name: Without ``.yaml``.

    Raises:
        InputError: Names all missing keys, each with its comment.
    """
    absent = [key for key, value in flattened(OmegaConf.to_container(cfg, resolve=False)) if value == MISSING]
    if not needs_labels(cfg):
        absent = [key for key in absent if key != "data.labels"]
    if absent:
        verb, past = ("is", "was") if len(absent) == 1 else ("are", "were")
        settings = " and ".join(f"{key}=...{_purpose(key, choices, config_name)}" for key in absent)
        raise InputError(f"{' and '.join(absent)} {verb} needed and {past} not given; add {settings} to the command")


def check_numbers(cfg: DictConfig, overrides: Sequence[str], config_name: str) -> None:
    """Raise if a word is given for a number; ``auto`` and ``all`` are allowed.

    Raises:
        InputError: Names the key, its value and the default.
    """
    words = _given_words(cfg, overrides)
    if not words:
        return
    defaults = composed(config_name, [o for o in overrides if o.partition("=")[0] not in words])
    for key, word in words.items():
        number = OmegaConf.select(defaults, key, throw_on_missing=False)
        if isinstance(number, (int, float)):
            raise InputError(f"{key}={word}: expected a number such as {number}; fix it or leave it out")


def _given_words(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, str]:
    """Keys that the command line sets to a word other than ``auto`` and ``all``, with the word."""
    keys = [o.partition("=")[0].lstrip("+") for o in overrides]
    values = {key: OmegaConf.select(cfg, key) for key in keys if "." in key or key in cfg}
    return {key: value for key, value in values.items() if isinstance(value, str) and value not in ("auto", "all")}


def needs_labels(cfg: DictConfig) -> bool:
    """Whether the method of a training reads labels; pretraining does not."""
    module, _, name = OmegaConf.select(cfg, "method._target_", default="").rpartition(".")
    if not module.startswith("medseg.methods."):
        return True
    spec = find_spec(module)  # which does not run it: torch takes seconds
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    return re.search(rf"^class {re.escape(name)}\(.*\bPretraining\b", source, re.MULTILINE) is None


def leave_out_labels(cfg: DictConfig) -> None:
    """Set ``data.labels`` to null if it is missing and no label is read."""
    if OmegaConf.is_missing(cfg.data, "labels") and not needs_labels(cfg):
        cfg.data.labels = None


def _purpose(key: str, choices: Mapping[str, object], config_name: str) -> str:
    """The comment of a key without a value, in brackets; empty where there is none."""
    group, _, inner = key.partition(".")
    for path, name in ((f"{config_name}.yaml", key), (f"{group}/{choices.get(group)}.yaml", inner)):
        for folder in conf_dirs():
            content = (folder / path).read_text(encoding="utf-8") if (folder / path).is_file() else ""
            if match := re.search(rf"^{re.escape(name)}: +\?\?\? +# *(.+)$", content, re.MULTILINE):
                return f" ({match[1]})"
    return ""
