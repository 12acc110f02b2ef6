"""Errors of the disk that only its user can fix, in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import InputError

_CAUSES = {
    errno.ENOSPC: "no space is left on the device; free some, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission is denied; change it, or choose another folder",
    errno.EPERM: "the operation is not permitted; change the permissions, or choose another folder",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Around what writes ``path``: an error of the disk names it, where the system names no file (a full disk)."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def readable() -> Iterator[None]:
    """Around what reads files of the user: one that the system does not give is bad input.

    Example:
        >>> with readable():
        ...     open("no/such/file")
        Traceback (most recent call last):
        ...
        medseg.errors.InputError: no/such/file: can't be read (No such file or directory)
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename}: can't be read ({error.strerror})") from error


def full(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is a disk that takes nothing more: trying the next file is useless.

    Example:
        >>> full(OSError(errno.ENOSPC, "No space left on device")), full(OSError(errno.EACCES, "Permission denied"))
        (True, False)
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        error = error.__cause__
    return False


def cause(error: BaseException | None) -> str | None:
    """One line with the file and the cause, if an error or what led to it is one of the disk; else None.

    Example:
        >>> cause(OSError(errno.ENOSPC, "No space left on device", "runs/a/metrics.csv"))
        'runs/a/metrics.csv: no space is left on the device; free some, or choose another folder'
        >>> cause(OSError(errno.EINVAL, "Invalid argument")) is None
        True
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _CAUSES:
            named = [str(name) for name in (error.filename, error.filename2) if name is not None]
            return f"{' and '.join(named) or 'a file'}: {_CAUSES[error.errno]}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
