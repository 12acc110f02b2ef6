"""What of a checkpoint goes to others: no names of cases, which may be those of patients, and no paths of a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medseg.checkpoint import FIRST_STAGE, Checkpoint

_BEFORE = r"(?:^|(?<=[=\[{,:'\"])|(?<=[,:] ))"  # how a value begins in overrides of Hydra and in lists
_PATH = re.compile(rf"{_BEFORE}(?:~?/(?!/)|[A-Za-z]:[\\/](?!/))[^,\]}}'\"]*")


def published(one: Checkpoint, *, flips: bool | None = None, overlap: float | None = None) -> Checkpoint:
    """A checkpoint as it is exported: of what prediction needs, without what is not for others.

    Args:
        one: Of a training.
        flips: The mirrors at test time of the export; None as it was trained.
        overlap: Of the windows of the export; None as it was trained.
    """
    config = without_paths(one.stored["config"])
    settings = {"flips": flips, "overlap": overlap}
    config["inference"] |= {key: value for key, value in settings.items() if value is not None}
    origin = _without_names(one.stored["provenance"])
    stored = {**one.stored, "config": config, "provenance": origin}
    held = one.to_dict() | {"medseg": stored}
    if one.first_stage is not None:
        held[FIRST_STAGE] = published(one.first_stage, flips=flips, overlap=overlap).to_dict()
    return Checkpoint.from_dict(held, one.path)


def without_paths(value: Any) -> Any:
    """Plain data in which absolute paths are cut down to their last part.

    Example:
        >>> without_paths(["data.root=/data/patients", "weights=hf-hub:owner/name", {"formula": "(N - R) / (N + R)"}])
        ['data.root=patients', 'weights=hf-hub:owner/name', {'formula': '(N - R) / (N + R)'}]
    """
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(item) for item in value]
    return _PATH.sub(_last, value) if isinstance(value, str) else value


def _last(path: re.Match[str]) -> str:
    return re.split(r"[\\/]", path[0].rstrip("\\/"))[-1]


def _without_names(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance with the number of cases of each part instead of their names."""
    data = provenance.get("data") or {}
    shown = {key: len(value) if isinstance(value, (list, tuple)) else value for key, value in data.items()}
    shown.pop("files", None)
    public = {key: value for key, value in provenance.items() if key not in ("config", "git")}
    return dict(without_paths(public | {"data": shown}))
