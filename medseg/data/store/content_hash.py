"""Keys of content: which files, with what bytes, under which settings."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medseg.formats.companions import companions
from medseg.runtime.atomic import write_whole

_LOG = logging.getLogger(__name__)

_VERSION = 3
_BLOCKS = 16
"""Blocks of a file, first and last among them, that its quick hash reads."""
_BLOCK = 4096


def content_key(files: Iterable[Path], settings: Mapping[str, object], *, memory: dict[str, str] | None = None) -> str:
    """Hexadecimal key of the files' bytes and of JSON-able settings.

    The bytes of companions count too: the data file of a header, the tables of a Shapefile. A file whose digest is
    in ``memory`` is not read again if path, size, modification time and quick hash are as they were.

    Args:
        files: Files or folders (a DICOM series), in an order that matters.
        settings: Further values that the result depends on.
        memory: Digests of files already read; filled here.
    """
    hashes = {} if memory is None else memory
    total = hashlib.blake2b(json.dumps([_VERSION, settings], sort_keys=True).encode(), digest_size=16)
    for part in _parts(files):
        stat = part.stat()
        name = f"{part.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{quick_hash(part)}"
        if name not in hashes:
            hashes[name] = sha256_of(part)
        total.update(hashes[name].encode())
    return total.hexdigest()


def _parts(files: Iterable[Path]) -> Iterator[Path]:
    """Every file that is read, the companions of each behind it."""
    for path in files:
        for part in sorted(path.iterdir()) if path.is_dir() else [path]:
            yield part
            yield from companions(part)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def quick_hash(path: Path) -> str:
    """Hash of the first, the last and evenly spread blocks of a file: 64 kB at most, whatever its size.

    It notices a file that was replaced by another of the same size and time (``cp -p``, ``rsync -t``, a restored
    backup); not a change of a few bytes between the blocks: ``Digests.forget`` has all bytes read again.
    """
    size = path.stat().st_size
    total = hashlib.blake2b(digest_size=8)
    with path.open("rb") as stream:
        if size <= _BLOCKS * _BLOCK:
            total.update(stream.read())
        else:
            for number in range(_BLOCKS):
                stream.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
                total.update(stream.read(_BLOCK))
    return total.hexdigest()


class Digests:
    """Content digests of files already read, kept in one JSON file of the store.

    Args:
        path: The file; it need not exist. One that is damaged counts as absent, with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory: dict[str, str] = {}
        if path.exists():
            try:
                self.memory = {str(name): str(digest) for name, digest in json.loads(path.read_bytes()).items()}
            except (ValueError, AttributeError):  # not JSON, or of another form
                _LOG.warning("%s is damaged; the files of the dataset are read again", path)

    @staticmethod
    def forget(path: Path) -> None:
        """Remove the file, so that every byte of the dataset is read and compared again."""
        path.unlink(missing_ok=True)

    def save(self) -> None:
        """Write the file in one rename."""
        write_whole(self.path, json.dumps(self.memory))
