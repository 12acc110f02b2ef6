"""A JSON file of many entries that changes entry by entry, without being written anew each time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medseg.runtime.atomic import write_whole


class Journal:
    """The content of a JSON file and of the changes that were appended to a log next to it.

    A change is one line of the log, written under a lock, so that several processes may share a file, and that the cost
    of a change does not grow with the number of entries. ``compact`` writes the file anew and removes the log. What a
    kill leaves of a line is cut off by the next change.

    Args:
        path: The file; the log is ``.<name>.log`` in the same folder.
        check: Gives the content of the file, of plain values, in the form that ``apply`` changes; raises if it is
            damaged. Called with None where there is no file.
        apply: Makes one change of such content.
    """

    def __init__(
        self, path: Path, check: Callable[[Any], dict[str, Any]], apply: Callable[[dict[str, Any], Any], None]
    ) -> None:
        self.path, self.log = path, path.with_name(f".{path.name}.log")
        self._check, self._apply = check, apply
        self._seen: tuple[object, object] = ("nothing", "nothing")
        self._offset = 0
        self.content: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes changed."""
        seen = (_identity(self.path, timed=True), _identity(self.log))
        if seen != self._seen:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else None
            self.content = self._check(None if text is None else json.loads(text))
            self._seen, self._offset = seen, 0
        if seen[1] is None:
            return
        with self.log.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if line.endswith(b"\n"):
                    self._apply(self.content, json.loads(line))
                    self._offset += len(line)

    def change(self, change: Mapping[str, Any]) -> None:
        """Make a change, in the file's content and in that of other processes when they look."""
        with locked(self.path.parent):
            self.refresh()
            with self.log.open("ab") as file:
                file.truncate(self._offset)  # what a kill left of a line
                file.write(json.dumps(change).encode() + b"\n")
            self._seen = (self._seen[0], _identity(self.log))
            self.refresh()

    def compact(self, stored: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Write the file anew and remove the log.

        Args:
            stored: Gives what the file is to hold for the content; None removes it.
        """
        if not self.log.exists():
            return
        with locked(self.path.parent):
            self.refresh()
            whole = stored(self.content)
            if whole is None:
                self.path.unlink(missing_ok=True)
            else:
                write_whole(self.path, json.dumps(whole, indent=1) + "\n")
            self.log.unlink(missing_ok=True)
            self._seen = ("nothing", "nothing")
            self.refresh()


def _identity(path: Path, *, timed: bool = False) -> tuple[int, int] | None:
    """What tells a file from one that took its name; with ``timed`` from an earlier state of itself, too."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns if timed else 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, where its file system has locks; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
