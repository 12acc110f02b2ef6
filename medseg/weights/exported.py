"""Checkpoints in what medseg-export wrote: a folder, or an archive of one."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from medseg.errors import InputError, rename_keys

SETTINGS, SELECTION = "predictor.json", "selection.yaml"
"""Names of the description of a predictor, and of the list of its checkpoints."""
CHECKPOINTS = "model*.ckpt"
"""Pattern of the names of its checkpoints."""
_NEEDED = re.compile(rf"{re.escape(SETTINGS)}|{re.escape(SELECTION)}|model(_\d+)?\.ckpt")
_MOST_TEXT = 16 << 20  # bytes of a description or a list
_LARGE, _MOST_RATIO = 64 << 20, 200  # weights hardly compress; tensors of zeros that large are no network
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive of medseg-export; one of torch, which is a zip file too, has no description."""
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == SETTINGS for name in archive.namelist())
    except _DAMAGE:
        return False


@contextmanager
def unpacked(path: Path, key: str) -> Iterator[Path]:
    """A temporary folder with the description and the checkpoints of an archive; it is removed at the end.

    Nothing else of the archive is written, and nothing outside of the folder. Errors that are raised inside name the
    archive instead of the folder.

    Args:
        path: The archive.
        key: What names it, for messages, such as ``checkpoint``.

    Raises:
        InputError: No archive of medseg-export, a damaged one, or one with entries that no export has.
    """
    temporary = tempfile.TemporaryDirectory(prefix="medseg-", ignore_cleanup_errors=True)
    with temporary as name, rename_keys((name, str(path))):
        _unpack(path, Path(name), f"{key}={path}")
        yield Path(name)


def _unpack(path: Path, folder: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _needed(archive.infolist(), where)
            _check_sizes(entries, shutil.disk_usage(folder).free, where)
            for entry in entries:
                target = folder / PurePosixPath(entry.filename).name
                with archive.open(entry) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
    except _DAMAGE as error:
        raise InputError(
            f"{where}: can't be read as an archive ({type(error).__name__}); it is cut short, damaged or encrypted: "
            "export it again"
        ) from error


def _needed(entries: list[zipfile.ZipInfo], where: str) -> list[zipfile.ZipInfo]:
    """The entries that are read.

    Raises:
        InputError: One of the archive is a link or lies outside of it, or none is a description.
    """
    for entry in entries:
        _check_place(entry, where)
    paths = {entry.filename: PurePosixPath(entry.filename) for entry in entries}
    roots = [path.parent for path in paths.values() if path.name == SETTINGS]
    if len(roots) != 1:
        raise InputError(f"{where}: holds {len(roots)} files {SETTINGS}, expected 1 as medseg-export writes it")
    needed = [name for name, path in paths.items() if path.parent == roots[0] and _NEEDED.fullmatch(path.name)]
    entries = [entry for entry in entries if entry.filename in needed]
    if len(entries) != len(needed):
        raise InputError(f"{where}: holds a file of {', '.join(needed)} twice; export it again")
    return entries


def _check_place(entry: zipfile.ZipInfo, where: str) -> None:
    name = entry.filename
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    if outside or stat.S_ISLNK(entry.external_attr >> 16):
        kind = "a path outside of the archive" if outside else "a link"
        raise InputError(f"{where}: its entry {name!r:.80} is {kind}, which medseg-export never writes; do not use it")


def _check_sizes(entries: Sequence[zipfile.ZipInfo], free: int, where: str) -> None:
    """Raise before anything is written if entries are larger than those of exports, or than the disk has room for."""
    for entry in entries:
        size, text = entry.file_size, not entry.filename.endswith(".ckpt")
        if (text and size > _MOST_TEXT) or size > max(_LARGE, _MOST_RATIO * entry.compress_size):
            raise InputError(
                f"{where}: its entry {entry.filename!r:.80} grows from {entry.compress_size} to {size} bytes, which "
                "no export does; do not use it"
            )
    total = sum(entry.file_size for entry in entries)
    if total > free:
        raise InputError(
            f"{where}: needs {total / 2**20:.0f} MiB in {tempfile.gettempdir()}, which has {free / 2**20:.0f}; set "
            "TMPDIR to a folder with more space, or unpack the archive and give its folder"
        )
