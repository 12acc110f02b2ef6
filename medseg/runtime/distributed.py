"""Processes: several that train together agree on their run folder, and the first one goes ahead where files appear.

Lightning starts the further processes itself, when the fit begins (``trainer=ddp``), or ``torchrun`` or ``srun``
started all of them together. In the first case they are handed the run folder; in the second they meet before
anything is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ParallelStrategy

from medseg.errors import InputError

_HANDED = "MEDSEG_RUN"
"""Variable that tells processes which Lightning starts what the first one decided."""
_UNREACHABLE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport")
"""Of gloo, which raises RuntimeError, where another process ended."""
_LEFT = (_HANDED, "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Variables that Lightning's launcher sets in its own process, and would take for orders at the next training."""


def handed() -> tuple[Path, Path | None] | None:
    """Run folder and checkpoint to resume from, if the first process started this one; else None."""
    if _HANDED not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0":
        return None
    run_dir, resumed = json.loads(os.environ[_HANDED])
    return Path(run_dir), None if resumed is None else Path(resumed)


def check(trainer: Trainer, *, sweeps: bool) -> None:
    """Refuse what would train the same thing several times over, or wait for ever.

    Args:
        trainer: Just made.
        sweeps: Whether this is one job of several that run in this process.

    Raises:
        InputError: Processes that were started for a trainer of one; a sweep whose jobs need further processes.
    """
    by, key = ("torchrun", "WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else ("srun", "SLURM_STEP_NUM_TASKS")
    started, taken = int(os.environ.get(key, "1")), trainer.num_devices * trainer.num_nodes
    if 1 < started != taken:
        raise InputError(
            f"{by} started {started} processes, the trainer takes {taken}; add trainer=ddp trainer.devices=N "
            f"trainer.num_nodes=M, as many on each of the machines as {by} was told"
        )
    if sweeps and trainer.world_size > 1 and _starts_others(trainer):
        raise InputError(
            f"a sweep runs its jobs in this process, which can't start others for {trainer.world_size} devices; choose "
            "trainer.devices=1, or start the trainings one by one"
        )


def meet(trainer: Trainer) -> None:
    """Join the processes that were started together; does nothing for one alone, or if Lightning is to start them."""
    if trainer.world_size > 1 and not _starts_others(trainer) and handed() is None:
        trainer.strategy.setup_environment()


@contextmanager
def first_alone(trainer: Trainer) -> Iterator[None]:
    """Of processes that have met, the first goes through the block, then the others at once."""
    if handed() is not None or not _met():
        yield
        return
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(days=30))  # preparing may take longer than NCCL waits
    if not trainer.is_global_zero:
        dist.barrier(group)
    yield
    if trainer.is_global_zero:
        dist.barrier(group)


def agreed(trainer: Trainer, run_dir: Path) -> Path:
    """The run folder of the first process: the names of those that were started together may differ by a second."""
    return Path(trainer.strategy.broadcast(str(run_dir))) if handed() is None and _met() else run_dir


@contextmanager
def handing(trainer: Trainer, run_dir: Path, resumed: Path | None) -> Iterator[None]:
    """Within, processes that Lightning starts get this run folder; after it nothing is left of them in this process."""
    before = {name: os.environ.get(name) for name in _LEFT}
    before_it = _initialised()
    if trainer.world_size > 1 and _starts_others(trainer):
        os.environ[_HANDED] = json.dumps([str(run_dir), resumed and str(resumed)])
    try:
        yield
    finally:
        if (
            not before_it and _initialised() and dist.get_backend() == "gloo"
        ):  # NCCL's is ended by Lightning, with the process
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def lost_another(error: BaseException) -> bool:
    """Whether an error says that another process of the training can't be reached any more.

    Example:
        >>> lost_another(RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:2046"))
        True
    """
    return isinstance(error, dist.DistBackendError) or any(words in str(error) for words in _UNREACHABLE)


def _starts_others(trainer: Trainer) -> bool:
    strategy = trainer.strategy
    environment = strategy.cluster_environment if isinstance(strategy, ParallelStrategy) else None
    return environment is not None and not environment.creates_processes_externally


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def _met() -> bool:
    return _initialised() and dist.get_world_size() > 1
