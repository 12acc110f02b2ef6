"""Which networks are exported: one checkpoint, several, or those of a selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import InputError
from medseg.runtime.values import listed, mapped, text, truth

_FORMAT = 1


@dataclass(frozen=True)
class Members:
    """The networks of a predictor.

    Attributes:
        checkpoints: Their files.
        digests: What ``Checkpoint.digest`` of each has to be; None where any will do.
        flips: Average over mirrored images; None does as each training's configuration says.
        postprocessing: Steps as ``PostProcess.from_list`` takes them.
    """

    checkpoints: tuple[Path, ...]
    digests: tuple[str | None, ...]
    flips: bool | None = None
    postprocessing: tuple[Any, ...] = ()

    @classmethod
    def of(cls, value: str | Sequence[str]) -> Members:
        """Of ``checkpoint=``: a file, a list of files, or the ``selection.yaml`` of ``medseg-select``.

        Raises:
            InputError: No checkpoint, or a selection that can't be read; names the key.
        """
        names = [value] if isinstance(value, str) else list(value)
        if not names:
            raise InputError("checkpoint=[]: expected a checkpoint, several, or a selection.yaml")
        if len(names) == 1 and Path(names[0]).suffix in (".yaml", ".yml"):
            return _selected(Path(names[0]))
        return cls(tuple(Path(name) for name in names), (None,) * len(names))

    def check(self, position: int, digest: str) -> None:
        """Check that a checkpoint is the one that was selected.

        Raises:
            InputError: It is another one.
        """
        if self.digests[position] not in (None, digest):
            raise InputError(
                f"checkpoint={self.checkpoints[position]}: is another network than the selection was made for (digest "
                f"{digest[:12]}, expected {str(self.digests[position])[:12]}); select again"
            )


def _selected(path: Path) -> Members:
    where = f"checkpoint={path}"
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{where}: can't be read ({' '.join(str(error).split())[:200]})") from error
    fields = mapped(stored, where, ["format", "members"])
    if fields["format"] != _FORMAT:
        raise InputError(f"{where}: format {fields['format']}, expected {_FORMAT}; upgrade medseg")
    entries = [mapped(m, f"{where} members", ["checkpoint"]) for m in listed(fields["members"], f"{where} members")]
    if not entries:
        raise InputError(f"{where}: members is empty, expected one network or more")
    files = tuple(path.parent / text(entry["checkpoint"], f"{where} checkpoint") for entry in entries)
    digests = tuple(None if e.get("digest") is None else text(e["digest"], f"{where} digest") for e in entries)
    flips = fields.get("flips")
    steps = listed(fields.get("postprocessing") or [], f"{where} postprocessing")
    return Members(files, digests, None if flips is None else truth(flips, f"{where} flips"), tuple(steps))
