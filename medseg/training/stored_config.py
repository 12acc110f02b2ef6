"""The configuration that a run stored, as plain values with today's keys."""

from __future__ import annotations

from pathlib import Path

import yaml

from medseg.errors import InputError
from medseg.runtime import moved


def read_config(file: Path, remedy: str) -> dict[str, object]:
    """Read ``config.yaml`` of a run.

    Args:
        file: The file.
        remedy: What the user can do if it can't be read, for the message.

    Raises:
        InputError: It is no YAML, or not the configuration of a training.
    """
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{file}: is no valid YAML ({type(error).__name__}); {remedy}") from error
    if not isinstance(stored, dict) or not {"data", "model", "trainer"} <= stored.keys():
        raise InputError(
            f"{file}: is not the configuration of a training (expected keys such as data, model and trainer); {remedy}"
        )
    return moved.updated(stored)
