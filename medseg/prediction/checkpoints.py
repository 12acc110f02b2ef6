"""What ``checkpoint`` names: one file, several, a run, a sweep, or the selection that ``medseg-select`` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import InputError

_FORMAT = 1
_SELECTION = (".yaml", ".yml")


@dataclass(frozen=True)
class Choice:
    """Checkpoints that predict together.

    Attributes:
        paths: Their files.
        digests: What ``Checkpoint.digest`` of each has to be; None where that was not recorded.
        flips: Whether to average over mirrored images; None does as each training says.
        postprocessing: Steps of ``medseg.inference.postprocess.PostProcess``, as plain data.
    """

    paths: tuple[Path, ...]
    digests: tuple[str | None, ...]
    flips: bool | None = None
    postprocessing: tuple[Mapping[str, Any], ...] = ()


def find_checkpoints(named: str | Path | Sequence[str | Path]) -> Choice:
    """The checkpoints that ``checkpoint`` names.

    Args:
        named: A checkpoint; the folder of a run, which has ``checkpoints/best.ckpt``; the folder of a sweep or of a
            cross-validation, whose runs predict together; ``selection.yaml``; or a list of any of these but selections.

    Raises:
        InputError: No such file, a folder without checkpoints, or a selection that medseg did not write.
    """
    if not isinstance(named, (str, Path)):
        if not named:
            raise InputError("checkpoint=[]: expected at least one file or run folder")
        return _of_files([path for one in named for path in _files(Path(one))])
    path = Path(named)
    if path.suffix.lower() in _SELECTION and path.is_file():
        return _selection(path)
    return _of_files(_files(path))


def _of_files(paths: Sequence[Path]) -> Choice:
    repeated = sorted({str(path) for path in paths if list(paths).count(path) > 1})
    if repeated:
        raise InputError(f"checkpoint: {repeated[0]} is named twice; name each member of an ensemble once")
    return Choice(tuple(paths), (None,) * len(paths))


def _files(path: Path) -> list[Path]:
    """The checkpoint that a file or run is, or those of the runs of a sweep."""
    if not path.is_dir():
        if path.suffix.lower() in _SELECTION:
            raise InputError(f"checkpoint={path}: a selection stands by itself, not in a list")
        return [path]
    runs = runs_of(path)
    if not runs:
        raise InputError(
            f"checkpoint={path}: no checkpoints/best.ckpt in it and no folders of runs; give a checkpoint, the folder "
            "of a run or that of a sweep"
        )
    return [_of_run(run) for run in runs]


def runs_of(folder: Path) -> list[Path]:
    """The folder itself if it is a run; else the runs of a cross-validation or of a sweep, none of another folder.

    A cross-validation lists its runs in ``metrics.json``: where a sweep varies settings too, they lie elsewhere.

    Raises:
        InputError: ``metrics.json`` can't be read.
    """
    if (folder / "checkpoints").is_dir() or (folder / "config.yaml").is_file():
        return [folder]
    path = folder / "metrics.json"
    try:
        folds = json.loads(path.read_text(encoding="utf-8")).get("folds", []) if path.is_file() else []
        listed = [folder / str(fold["run"]) for fold in folds]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is not that of a cross-validation ({type(error).__name__}); repeat the command that wrote it"
        ) from error
    runs = [path.parent for path in folder.glob("*/config.yaml")]
    return listed or sorted(runs, key=lambda run: (len(run.name), run.name))


def _of_run(folder: Path) -> Path:
    best, last = folder / "checkpoints" / "best.ckpt", folder / "checkpoints" / "last.ckpt"
    if best.is_file():
        return best
    if last.is_file():
        raise InputError(
            f"checkpoint={folder}: the run has no checkpoints/best.ckpt, only last.ckpt; it was broken off before its "
            f"first validation, or judges its last weights: name {last} if you want that"
        )
    raise InputError(f"checkpoint={folder}: the run has no checkpoint; train it to its end, or leave it out")


def _selection(path: Path) -> Choice:
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
        version = stored["format"]
        members = [(str(one["checkpoint"]), one.get("digest")) for one in stored["members"]]
        flips, steps = stored.get("flips"), tuple(dict(step) for step in stored.get("postprocessing") or ())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"checkpoint={path}: is not a selection of medseg-select ({type(error).__name__}); expected format, "
            "members, flips and postprocessing"
        ) from error
    if version != _FORMAT:
        raise InputError(f"checkpoint={path}: has the format {version}, expected {_FORMAT}; upgrade medseg")
    if flips not in (None, True, False) or not members:
        raise InputError(
            f"checkpoint={path}: got {len(members)} members and flips={flips}, expected members and true, false or null"
        )
    paths = tuple(path.parent / name for name, _ in members)  # an absolute name stays as it is
    digests = tuple(None if digest is None else str(digest) for _, digest in members)
    return Choice(paths, digests, flips, steps)
