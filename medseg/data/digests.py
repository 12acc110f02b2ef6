"""Keys of content: which files, with what bytes, under which settings."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.files import write_whole

_VERSION = 2


def content_key(files: Iterable[Path], settings: Mapping[str, Any], *, memory: dict[str, str] | None = None) -> str:
    """Hexadecimal key of the files' bytes and of JSON-able settings.

    Args:
        files: Files or folders (a DICOM series), in an order that matters.
        settings: What else the result depends on.
        memory: Digests of files already read, by path, size and modification time; filled here.
    """
    known = {} if memory is None else memory
    total = hashlib.blake2b(json.dumps([_VERSION, settings], sort_keys=True).encode(), digest_size=16)
    for path in files:
        for part in sorted(path.iterdir()) if path.is_dir() else [path]:
            stat = part.stat()
            name = f"{part.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
            if name not in known:
                with part.open("rb") as stream:
                    known[name] = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(known[name].encode())
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
                print(f"warning: {path} is damaged; the files of the dataset are read again", file=sys.stderr)  # noqa: T201

    def save(self) -> None:
        """Write the file in one rename."""
        write_whole(self.path, json.dumps(self.memory))
