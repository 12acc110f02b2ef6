"""Cases in this process, or in several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import chain
from typing import Any, TypeVar

from medseg.engine.calls import (
    Answer,
    answer,
    attempt,
    ignore_interrupts,
    limit_threads,
    repeat_messages,
    thread_settings,
)
from medseg.engine.engine import Engine, Failure

C = TypeVar("C")
R = TypeVar("R")


class LocalEngine(Engine):
    """Works on cases in this process, or in processes of this machine.

    Args:
        processes: Number of processes, each with its share of the cores; 1 works in this process.
        attempts: How often a case is begun whose process dies, before it counts as failed.
    """

    def __init__(self, processes: int = 1, attempts: int = 3) -> None:
        self.processes = processes
        self.attempts = attempts
        self._workers: list[_Worker] = []

    @property
    def in_process(self) -> bool:
        """Whether there is one process, which is this one."""
        return self.processes == 1

    @property
    def elsewhere(self) -> bool:
        """Never."""
        return False

    def check(self) -> None:
        """Nothing can be missing."""

    def map(self, function: Callable[[C], R], cases: Iterable[C]) -> Iterator[tuple[C, R | Failure]]:
        """Call ``function`` for each case; see ``Engine.map``."""
        if self.in_process:
            return ((case, attempt(function, case)) for case in cases)
        return self._in_processes(_Function(function), iter(cases))

    def _in_processes(self, function: _Function, cases: Iterator[C]) -> Iterator[tuple[C, Any]]:
        again: deque[tuple[C, int]] = deque()  # cases whose process died, and how often
        new = ((case, 0) for case in cases)
        running: dict[Future[Answer], tuple[_Worker, C, int]] = {}
        while True:
            while len(running) < self.processes and (begun := next(chain(_drained(again), new), None)):
                worker = self._idle({worker for worker, _, _ in running.values()})
                running[worker.submit(function, begun[0])] = (worker, *begun)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, case, deaths = running.pop(future)
                try:
                    reply = future.result()
                except BrokenProcessPool:
                    worker.start()
                    if deaths + 1 < self.attempts:
                        again.append((case, deaths + 1))
                    else:
                        yield case, Failure(died(self.attempts))
                else:
                    repeat_messages(reply)
                    yield case, reply.result

    def _idle(self, busy: set[_Worker]) -> _Worker:
        """A worker without a case; a further one is started if there is none."""
        for worker in self._workers:
            if worker not in busy:
                return worker
        self._workers.append(_Worker(thread_settings(self.processes)))
        return self._workers[-1]

    def close(self) -> None:
        """End the processes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.kill()


def died(times: int) -> str:
    """The reason of a case whose worker died each time."""
    return (
        f"the worker that had this case died, {times} times in a row; the system ends processes when memory is full: "
        "use fewer workers on a machine, or look into its log"
    )


def _drained(queue: deque[C]) -> Iterator[C]:
    while queue:
        yield queue.popleft()


class _Function:
    """A function as a process gets it: once, with the first case."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.pickled = pickle.dumps(function)


class _Worker:
    """A process that works on one case at a time.

    Each process is a pool of its own: a pool of several is broken as a whole when one of them dies, and does not say
    which case that one had.
    """

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self.start()

    def start(self) -> None:
        """Start the process; also anew, after it died."""
        context = multiprocessing.get_context("spawn")  # forks of a process with threads may wait for ever
        self._pool = ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._variables,))
        self._pid = self._pool.submit(os.getpid)
        self._sent: _Function | None = None

    def submit(self, function: _Function, case: Any) -> Future[Answer]:
        """Begin a case."""
        pickled = None if self._sent is function else function.pickled
        self._sent = function
        try:
            return self._pool.submit(_call, pickled, case)
        except BrokenProcessPool:  # it died while it was idle
            self.start()
            self._sent = function
            return self._pool.submit(_call, function.pickled, case)

    def kill(self) -> None:
        """End the process at once."""
        with suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGKILL)
        self._pool.shutdown(cancel_futures=True)


_FUNCTION: list[Callable[[Any], Any]] = []
"""The function of this worker."""


def _begin(variables: dict[str, str]) -> None:
    """What a process does first."""
    os.environ.update(variables)
    ignore_interrupts()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that started this one is gone: one that was killed can't end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(pickled: bytes | None, case: Any) -> Answer:
    if pickled is not None:
        _FUNCTION[:] = [pickle.loads(pickled)]
        limit_threads()
    return answer(_FUNCTION[0], case)
