"""Cases on many machines, by Dask distributed: a running cluster, workers of this machine, or jobs of SLURM or PBS."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib import metadata
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from medseg._version import __version__
from medseg.engine import calls
from medseg.engine.calls import Answer, answer, limit_threads, repeat_messages, thread_settings
from medseg.engine.engine import Engine, Failure
from medseg.engine.local import died
from medseg.errors import InputError
from medseg.runtime.console import show

if TYPE_CHECKING:
    from distributed import Client, Future

C = TypeVar("C")
R = TypeVar("R")

_LOG = logging.getLogger(__name__)
_QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster"}
_ALLOWED = "distributed.scheduler.allowed-failures"
_SETTINGS = {"distributed.comm.timeouts.connect": "10s"}  # a worker that is gone is not asked for results for longer
_PATIENCE = 60.0  # seconds after which it is asked whether there still is a worker


class DaskEngine(Engine):
    """Works on cases by the workers of a Dask cluster, one case a worker at a time.

    Cases stay with this process until a worker is free: as many are submitted as there are workers. So a worker that
    dies takes one case with it and not those that would wait behind it, and a scheduler never holds thousands of them.

    Args:
        address: Of the scheduler of a running cluster, ``tcp://HOST:8786``. Without it, workers are started.
        workers: Number of processes on this machine, or of jobs.
        jobqueue: ``slurm`` or ``pbs``: workers are jobs of that scheduler.
        job: Settings of ``dask_jobqueue.SLURMCluster`` or ``PBSCluster``, such as ``cores`` and ``memory``.
        timeout: Seconds to wait for the scheduler of a running cluster, and for its first worker.
        attempts: How often a case is begun whose worker dies, before it counts as failed; of a running cluster its own
            setting ``distributed.scheduler.allowed-failures`` decides.

    Raises:
        InputError: Settings that exclude each other.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int = 2,
        jobqueue: str | None = None,
        job: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
        attempts: int = 3,
    ) -> None:
        if jobqueue is not None and jobqueue not in _QUEUES:
            raise InputError(f"engine.jobqueue={jobqueue}: expected {' or '.join(_QUEUES)}, or null for none")
        if address is not None and jobqueue is not None:
            raise InputError(f"got engine.address={address} and engine.jobqueue={jobqueue}, expected one of them")
        if job and jobqueue is None:
            raise InputError(f"engine.job={dict(job)}: needs engine.jobqueue={' or '.join(_QUEUES)}")
        self.address, self.workers, self.jobqueue, self.job = address, workers, jobqueue, dict(job or {})
        self.timeout, self.attempts = timeout, attempts
        self._client: Client | None = None
        self._opened = ExitStack()
        self._running: dict[Future[Any], Any] = {}

    @property
    def in_process(self) -> bool:
        """Never."""
        return False

    @property
    def elsewhere(self) -> bool:
        """Whether the workers are those of a running cluster, or jobs."""
        return self.address is not None or self.jobqueue is not None

    def check(self) -> None:
        """See that the packages are there, and the scheduler of a running cluster or the command that submits jobs."""
        needed = ["distributed", *(["dask_jobqueue"] if self.jobqueue else [])]
        if absent := [name for name in needed if find_spec(name) is None]:
            raise InputError(f"engine=dask needs {' and '.join(absent)}, not installed; pip install 'medseg[dask]'")
        if self.jobqueue is not None:
            command = self._queue_class().job_cls.submit_command
            if shutil.which(command.split()[0]) is None:
                raise InputError(
                    f"engine.jobqueue={self.jobqueue}: no command {command} here; run on a machine that submits jobs"
                )
        if self.address is not None:
            with self:
                self._connected()

    def map(self, function: Callable[[C], R], cases: Iterable[C]) -> Iterator[tuple[C, R | Failure]]:
        """Call ``function`` for each case; see ``Engine.map``."""
        client, left = self._connected(), iter(cases)
        held = client.submit(_unpickled, pickle.dumps(function), key=f"medseg-function-{uuid.uuid4().hex}")
        while True:
            for case in islice(left, max(0, self._capacity() - len(self._running))):
                key = f"medseg-case-{uuid.uuid4().hex}"
                self._running[client.submit(_answer, held, pickle.dumps(case), os.getcwd(), key=key)] = case
            if not self._running:
                return
            for future in self._next():
                case = self._running.pop(future)
                yield case, _result(future)

    def _capacity(self) -> int:
        """Number of workers at the moment; at least one, so that a cluster that adapts starts one."""
        return max(1, len(self._connected().nthreads()))

    def _next(self) -> list[Future[Any]]:
        """Cases that have ended; waits for one.

        Raises:
            InputError: The cluster is gone, or has no workers any more.
        """
        from concurrent.futures import CancelledError

        from distributed import wait

        while True:
            try:
                with self._connected().as_current():
                    return list(wait(list(self._running), timeout=_PATIENCE, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                if self.address is not None and not self._connected().nthreads():
                    raise InputError(
                        f"engine.address={self.address}: the cluster has no worker any more; start some (dask worker "
                        f"{self.address}), and run the same command again, which goes on"
                    ) from None
            except (CancelledError, OSError) as error:
                raise InputError(
                    f"the connection to the Dask scheduler {self.address or ''} was lost ({error}); run the same "
                    "command again, which goes on"
                ) from error

    def close(self) -> None:
        """Cancel what has not ended, and end the workers that were started."""
        client, running = self._client, list(self._running)
        self._client, self._running = None, {}
        with self._opened:
            if client is not None and running and client.status == "running":
                client.cancel(running, force=True)

    def _connected(self) -> Client:
        """The client; connects, and starts workers, at first."""
        if self._client is None:
            self._client = self._of_new_workers() if self.address is None else self._of_address(self.address)
        return self._client

    def _of_address(self, address: str) -> Client:
        """Connect to a running cluster.

        Raises:
            InputError: Nobody answers, there is no worker, or its medseg is another one.
        """
        from distributed import Client

        try:
            client = self._opened.enter_context(Client(address, timeout=self.timeout, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"engine.address={address}: no Dask scheduler answers within {self.timeout:g} s ({error}); start one "
                "(dask scheduler) and its workers (dask worker ADDRESS), or leave engine.address out"
            ) from error
        try:
            client.wait_for_workers(1, timeout=self.timeout)
        except TimeoutError as error:
            raise InputError(
                f"engine.address={address}: the scheduler has no worker; start some (dask worker {address})"
            ) from error
        versions = client.run(metadata.version, "medseg", on_error="return")
        others = {worker: version for worker, version in versions.items() if version != __version__}
        if others:
            worker, version = next(iter(others.items()))
            raise InputError(
                f"engine.address={address}: {len(others)} of {len(versions)} workers have another medseg: {worker} "
                f"({version}); install medseg {__version__} there"
            )
        return client

    def _of_new_workers(self) -> Client:
        """Start workers on this machine, or submit them as jobs."""
        import dask
        from distributed import Client, LocalCluster

        self._opened.enter_context(dask.config.set(_SETTINGS | {_ALLOWED: self.attempts - 1}))
        if self.jobqueue is not None:
            cluster = self._opened.enter_context(self._of_jobs())
            cluster.adapt(minimum_jobs=self.workers, maximum_jobs=self.workers)  # a job that ends is submitted again
            show(_LOG, f"{self.workers} {self.jobqueue} jobs are submitted; cases begin when the first one runs")
        else:
            cluster = self._opened.enter_context(
                LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    memory_limit=0,  # Dask holds none of the data: it would pause or end workers for a large case
                    dashboard_address="127.0.0.1:0",  # None takes port 8787, which another command may have
                    silence_logs=logging.CRITICAL,
                    env=thread_settings(self.workers),
                    preload=[calls.__name__],
                )
            )
        return self._opened.enter_context(Client(cluster, set_as_default=False))

    def _of_jobs(self) -> Any:
        from distributed.core import Status

        kind = self._queue_class()
        cluster = kind.__new__(kind)
        scheduler = {"dashboard_address": ":0"} | self.job.get("scheduler_options", {})
        try:
            cluster.__init__(**self.job | {"scheduler_options": scheduler})
        except (ValueError, TypeError) as error:
            cluster.status = Status.closed  # which keeps its end from complaining that it never began
            line = str(error).partition("\n")[0]
            raise InputError(
                f"engine.job={self.job}: {line}; the keys are those of dask_jobqueue.{kind.__name__}"
            ) from error
        return cluster

    def _queue_class(self) -> Any:
        import dask_jobqueue

        return getattr(dask_jobqueue, _QUEUES[str(self.jobqueue)])


def _result(future: Future[Any]) -> Any:
    """The result of a case that has ended; exceptions but that of a dead worker are raised."""
    from distributed import KilledWorker

    try:
        reply: Answer = future.result()
    except KilledWorker as error:
        return Failure(died(error.allowed_failures + 1))
    repeat_messages(reply)
    return reply.result


def _unpickled(pickled: bytes) -> Callable[[Any], Any]:
    """A function, in a worker: only there its modules are imported, not in the scheduler."""
    function: Callable[[Any], Any] = pickle.loads(pickled)
    limit_threads()
    return function


def _answer(function: Callable[[Any], Any], pickled: bytes, folder: str) -> Answer:
    return answer(function, pickle.loads(pickled), folder)
