"""Drafts: files and folders that are written under another name first, and what a killed process left of them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

_FILE = re.compile(r"\..+\.\d+(\.part)?")


def draft_folder(parent: Path, prefix: str) -> Path:
    """A new folder in ``parent`` whose name tells the machine and process that fill it.

    Args:
        parent: Where it is made; exists.
        prefix: Of its name, such as ``.building-``.
    """
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{_host()}.{os.getpid()}-", dir=parent))


def remove_dead_folders(parent: Path, prefix: str) -> list[Path]:
    """Remove the drafts of ``draft_folder`` whose process, on this machine, has ended; those of others stay.

    Returns:
        What was removed.
    """
    pattern = re.compile(rf"{re.escape(prefix + _host())}\.(\d+)-.*")
    removed = []
    for path in sorted(parent.glob(f"{prefix}*")):
        found = pattern.fullmatch(path.name)
        if found and not _alive(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def remove_files(folder: Path) -> list[Path]:
    """Remove the drafts of files (``.NAME.PID``, ``.NAME.PID.part``) in a folder that no other process writes into.

    Returns:
        What was removed.
    """
    found = [path for path in sorted(folder.glob(".*")) if path.is_file() and _FILE.fullmatch(path.name)]
    for path in found:
        with suppress(OSError):  # a folder that can't be written says so where it matters
            path.unlink()
    return found


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
