"""What happens to a case in the process that works on it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from logging.handlers import QueueHandler
from queue import Queue
from typing import Any, TypeVar

from medseg.engine.engine import Failure
from medseg.errors import InputError
from medseg.runtime.cpu import cores
from medseg.runtime.verbosity import quiet_libraries

C = TypeVar("C")
R = TypeVar("R")

_ROOT = logging.getLogger("medseg")
_ONE_CASE = threading.Lock()
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLOSC_NTHREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Answer:
    """What a worker sends back.

    Attributes:
        result: Result of the function, or a ``Failure``.
        messages: What was logged meanwhile.
    """

    result: Any
    messages: tuple[logging.LogRecord, ...]


def attempt(function: Callable[[C], R], case: C) -> R | Failure:
    """The result of a case, or the reason why it has none."""
    try:
        return function(case)
    except InputError as error:
        return Failure(str(error))


def answer(function: Callable[[C], R], case: C, folder: str = ".") -> Answer:
    """Work on one case in a worker; a process that has several threads for it works on one case at a time.

    Args:
        function: Called with the case.
        case: The case.
        folder: Working directory of the command, to which its paths are relative; a worker need not have it.
    """
    with _ONE_CASE, chdir(folder if os.path.isdir(folder) else "."), quiet_libraries(), _collected() as messages:
        result = attempt(function, case)
    return Answer(result, tuple(messages))


def repeat_messages(answer: Answer) -> None:
    """Log in this process what was logged in the worker."""
    for record in answer.messages:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class _Collector(QueueHandler):
    """Keeps messages in a form that can be pickled."""

    def __init__(self) -> None:
        super().__init__(Queue())
        self.messages: list[logging.LogRecord] = []

    def enqueue(self, record: logging.LogRecord) -> None:
        """Keep a message that was made ready for it."""
        if hasattr(record, "output"):
            record.output = record.message
        self.messages.append(record)


@contextmanager
def _collected() -> Iterator[list[logging.LogRecord]]:
    """Within, messages of medseg are collected, not printed: those of a worker would go to a log that nobody reads."""
    collector, level, propagates = _Collector(), _ROOT.level, _ROOT.propagate
    _ROOT.addHandler(collector)
    _ROOT.setLevel(logging.INFO)
    _ROOT.propagate = False
    try:
        yield collector.messages
    finally:
        _ROOT.removeHandler(collector)
        _ROOT.setLevel(level)
        _ROOT.propagate = propagates


def ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the first one, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_setup(worker: object) -> None:
    """What Dask calls in each worker that it starts with this module."""
    ignore_interrupts()


def thread_settings(workers: int) -> dict[str, str]:
    """Environment of each of several workers of this machine, so that together they use its cores once.

    Numbers of threads that the user has set stay.
    """
    share = str(max(1, cores() // workers))
    return {name: os.environ.get(name, share) for name in _THREAD_VARIABLES}


def limit_threads() -> None:
    """Hold torch to ``OMP_NUM_THREADS`` if it was imported before that was set."""
    torch, number = sys.modules.get("torch"), os.environ.get("OMP_NUM_THREADS", "")
    if torch is not None and number.isdigit() and torch.get_num_threads() != int(number):
        torch.set_num_threads(int(number))
