"""A lock on the folder of a run: one training at a time writes into it."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from medseg.errors import InputError

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``, which is made if need be, and removed again if nothing was put into it.

    The lock is the kernel's (``flock``), so that a process that is killed releases it. On a file system without
    locks nothing is held.

    Raises:
        InputError: Another process holds it.
        OSError: The folder can't be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / _NAME
    with _acquired(lock) as stream:
        stream.seek(0)
        stream.truncate()
        stream.write(
            f"process {os.getpid()} on {socket.gethostname()}: {' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"
        )
        stream.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # while it is held; whoever waits for it looks again
            for path in made:
                with suppress(OSError):  # what holds files stays
                    path.rmdir()


def _acquired(lock: Path) -> TextIO:
    """The lock file, open and locked; it closes, and with it the lock, at the end of a ``with``."""
    while True:
        stream = lock.open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            stream.close()
            raise InputError(
                f"run_dir={lock.parent}: another training writes into it ({holder[:300]}); wait for it, end it, or "
                "choose another run_dir"
            ) from None
        except OSError:  # a file system without locks
            return stream
        if _is(lock, stream):
            return stream
        stream.close()  # its holder has removed it meanwhile


def _is(path: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
