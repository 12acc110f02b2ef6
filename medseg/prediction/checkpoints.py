"""What ``checkpoint`` names: files, runs, sweeps, selections of ``medseg-select``, exports of ``medseg-export``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medseg import checkpoint
from medseg.checkpoint import Checkpoint
from medseg.errors import InputError, rename_keys
from medseg.weights import hub
from medseg.weights.exported import SELECTION, SETTINGS, is_archive, unpacked

FORMAT = 1
"""Version of ``selection.yaml``."""
_KEY_OF_WEIGHTS = "model.encoder.weights="  # in messages of ``weights.hub``
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


@dataclass(frozen=True)
class Loaded:
    """Checkpoints that were read.

    Attributes:
        choice: What was named.
        checkpoints: In its order. Their paths are for people: those of an archive lie in it.
    """

    choice: Choice
    checkpoints: tuple[Checkpoint, ...]


def read_checkpoints(named: str | Path | Sequence[str | Path]) -> Loaded:
    """Read the checkpoints that ``checkpoint`` names.

    Args:
        named: As for ``find_checkpoints``; also an archive of medseg-export, or ``hf-hub:owner/name[@revision]``,
            alone or in a list.

    Raises:
        InputError: As ``find_checkpoints``; or a file that is no checkpoint, or not the one that was selected.
    """
    names = [named] if isinstance(named, (str, Path)) else list(named)
    with ExitStack() as stack:
        places = [stack.enter_context(_local(name)) for name in names]
        choice = find_checkpoints(places[0] if isinstance(named, (str, Path)) else places)
        loaded = [checkpoint.read(file) for file in choice.paths]
        for one, digest in zip(loaded, choice.digests, strict=True):
            _check_digest(one, digest)
    aliases = {place: Path(name) for place, name in zip(places, names, strict=True)}
    return Loaded(choice, tuple(replace(one, path=_named(one.path, aliases)) for one in loaded))


@contextmanager
def _local(name: str | Path) -> Iterator[Path]:
    """The file or folder itself; of an archive or a repository of the hub, a folder of its checkpoints."""
    if str(name).startswith(hub.PREFIX):
        with rename_keys((_KEY_OF_WEIGHTS, "checkpoint=")):
            folder = hub.snapshot(str(name))
        with rename_keys((str(folder), str(name))):
            yield folder
    elif is_archive(Path(name)):
        with unpacked(Path(name), "checkpoint") as folder:
            yield folder
    else:
        yield Path(name)


def _named(path: Path, aliases: Mapping[Path, Path]) -> Path:
    """A file as the user knows it, by the names of the folders that it may lie in."""
    folders = [folder for folder in aliases if path.is_relative_to(folder)]
    return aliases[folders[0]] / path.relative_to(folders[0]) if folders else path


def _check_digest(loaded: Checkpoint, expected: str | None) -> None:
    if expected is not None and loaded.digest != expected:
        raise InputError(
            f"checkpoint={loaded.path}: is not the checkpoint that was selected (its weights or its configuration "
            "changed since); run medseg-select again (or medseg-export)"
        )


def find_checkpoints(named: str | Path | Sequence[str | Path]) -> Choice:
    """The checkpoints that ``checkpoint`` names.

    Args:
        named: A checkpoint; the folder of a run, which has ``checkpoints/best.ckpt``; the folder of a sweep or of a
            cross-validation, whose runs predict together; that of an export; ``selection.yaml``; or a list of any of
            these but selections and exports with post-processing.

    Raises:
        InputError: No such file, a folder without checkpoints, or a selection that medseg did not write.
    """
    if isinstance(named, (str, Path)):
        return _choice(Path(named))
    if not named:
        raise InputError("checkpoint=[]: expected at least one file or run folder")
    parts = [_part_of_list(Path(one)) for one in named]
    paths = [path for part in parts for path in part.paths]
    if repeated := sorted({str(path) for path in paths if paths.count(path) > 1}):
        raise InputError(f"checkpoint: {repeated[0]} is named twice; name each member of an ensemble once")
    return Choice(tuple(paths), tuple(digest for part in parts for digest in part.digests))


def _choice(path: Path) -> Choice:
    if path.suffix.lower() in _SELECTION and path.is_file():
        return _selection(path)
    if (path / SETTINGS).is_file():
        return _export(path)
    paths = _files(path)
    return Choice(tuple(paths), (None,) * len(paths))


def _part_of_list(path: Path) -> Choice:
    """Some of the members of an ensemble.

    Raises:
        InputError: It has settings of its own, which are not those of the others.
    """
    if path.suffix.lower() in _SELECTION:
        raise InputError(f"checkpoint={path}: a selection stands by itself, not in a list")
    part = _choice(path)
    if part.postprocessing or part.flips is not None:
        raise InputError(f"checkpoint={path}: an export with post-processing stands by itself, not in a list")
    return part


def _files(path: Path) -> list[Path]:
    """The checkpoint that a file or run is, or those of the runs of a sweep."""
    if not path.is_dir():
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
    if version != FORMAT:
        raise InputError(f"checkpoint={path}: has the format {version}, expected {FORMAT}; upgrade medseg")
    if flips not in (None, True, False) or not members:
        raise InputError(
            f"checkpoint={path}: got {len(members)} members and flips={flips}, expected members and true, false or null"
        )
    paths = tuple(path.parent / name for name, _ in members)  # an absolute name stays as it is
    digests = tuple(None if digest is None else str(digest) for _, digest in members)
    return Choice(paths, digests, flips, steps)


def _export(folder: Path) -> Choice:
    """The checkpoints of a folder of medseg-export.

    Raises:
        InputError: It holds none, or others than its description says.
    """
    path = folder / SELECTION
    if not path.is_file():
        raise InputError(
            f"checkpoint={folder}: an export without {SELECTION} and checkpoints, which only its runner.py can use; "
            "export it again with this version of medseg"
        )
    choice = _selection(path)
    try:
        described = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        digests = tuple(str(member["digest"]) for member in described["members"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"checkpoint={folder}: its {SETTINGS} is not that of medseg-export ({type(error).__name__}); "
            "export it again"
        ) from error
    if any(path.parent != folder for path in choice.paths) or digests != choice.digests:
        raise InputError(
            f"checkpoint={folder}: {SETTINGS} and {SELECTION} do not name the same checkpoints in it; copy the "
            "export as a whole"
        )
    return choice
