"""Signals that end a command: at once, or after the current step of a training, with the exit code of the shell."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, the end that schedulers and containers ask for, and SLURM's warning before it pre-empts a job."""

_deferring = 0
_pending = 0


class EndedBySignal(SystemExit):
    """A signal ended this process; its exit code is 128 + the signal's number, as shells count.

    Attributes:
        signum: Number of the signal.
        told: Whether a line about it has been printed.

    Example:
        >>> EndedBySignal(signal.SIGTERM).code, EndedBySignal(signal.SIGTERM).name
        (143, 'SIGTERM')
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = int(signum)
        self.told = False

    @property
    def name(self) -> str:
        """Name of the signal, such as ``SIGTERM``."""
        return signal.Signals(self.signum).name


@contextmanager
def handled() -> Iterator[None]:
    """Within, the signals of ``ENDING`` raise ``EndedBySignal`` in the main thread; outside of it nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    install()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def install() -> None:
    """Take the signals over, also from a library that registered handlers of its own; main thread only."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            signal.signal(number, receive)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, the first signal is only kept in ``pending()``; a second one raises at once.

    Raises:
        EndedBySignal: At the end of the block, if a signal was kept and nothing has raised for it.
    """
    global _deferring, _pending
    _deferring += 1
    try:
        yield
        if _pending:  # received after the last point that looks for one
            raise EndedBySignal(_pending)
    finally:
        _deferring -= 1
        if not _deferring:
            _pending = 0


def pending() -> int:
    """Number of the signal that was received in a ``deferred`` block; 0 if there was none."""
    return _pending


def receive(signum: int, frame: FrameType | None = None) -> None:
    """The handler: keep the signal, or raise.

    Raises:
        EndedBySignal: Outside of a ``deferred`` block, or for the second signal within one.
    """
    global _pending
    if not _deferring or _pending:
        raise EndedBySignal(signum)
    _pending = int(signum)
