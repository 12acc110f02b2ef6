"""Processes that read windows beside the training."""

from __future__ import annotations

import multiprocessing
import signal
from typing import Any


def processes(workers: int) -> dict[str, Any]:
    """Settings of a ``DataLoader`` with ``workers`` processes; with 0 it reads by itself, between steps.

    The processes come from a server that has done nothing but import, not from a fork of this process: after this one
    has decoded an array of blosc2 with threads, its forks wait for ever for threads that they do not have, and GDAL,
    CUDA and loggers hold locks at times. They live as long as the loader, as starting them takes seconds, so what
    they read must be a function of the index alone.

    A script that trains needs its ``if __name__ == "__main__":`` then, as everywhere where processes are not forked.
    """
    if not workers:
        return {"num_workers": 0}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medseg.data.sampling.patch_dataset"])
    return {
        "num_workers": workers,
        "multiprocessing_context": context,
        "persistent_workers": True,
        "worker_init_fn": _leave_interrupts_to_the_trainer,
    }


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the training saves a checkpoint first, and then ends these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
