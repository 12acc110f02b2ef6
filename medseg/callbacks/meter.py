"""Meter: says after some steps and at the end where the time of a training goes, and what would save most of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler

from medseg.callbacks.clock import Part, StepClock
from medseg.errors import InputError
from medseg.loggers.csv_file import MetricsFile
from medseg.runtime.console import show
from medseg.runtime.cpu import cores

_LOG = logging.getLogger(__name__)


class Meter(Callback):
    """Reports the share of each part of the time (``StepClock``) in one line with one recommendation.

    The first step is not counted: it starts processes, compiles and fills caches. The shares of the end go to the
    loggers as ``time/<part>``, except to ``metrics.csv``, which is the same whenever a seeded training is repeated.
    It does nothing where ``trainer.profiler`` is set.

    Args:
        steps: Optimiser steps of this process after which it reports for the first time.
        now: The clock, in seconds.

    Raises:
        InputError: No step at all.
    """

    def __init__(self, steps: int = 50, now: Callable[[], float] = time.perf_counter) -> None:
        if steps < 1:
            raise InputError(f"callback.meter.steps={steps}: expected a number of steps, 1 or more")
        self.steps, self._now = steps, now
        self._clock: StepClock | None = None
        self._first, self._reported = 0, False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Become the trainer's profiler unless it has one."""
        if stage == "fit" and isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
            self._clock = trainer.profiler = StepClock(self._now)  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the step from which a training begins or goes on."""
        self._first, self._reported = trainer.global_step, False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Begin to count after the first step; report when the steps are done."""
        done = trainer.global_step - self._first
        if self._clock and done <= 1:
            self._clock.reset()
        if done > self.steps and not self._reported:
            self._reported = True
            self._report(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation begins."""
        if self._clock:
            self._clock.validating(True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation ends."""
        if self._clock:
            self._clock.validating(False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and log the shares."""
        if self._clock and trainer.global_step - self._first > 1:
            shares = self._report(trainer)
            for logger in trainer.loggers:
                if not isinstance(logger, MetricsFile):
                    logger.log_metrics({f"time/{part}": share for part, share in shares.items()}, trainer.global_step)

    def _report(self, trainer: Trainer) -> dict[Part, float]:
        """Print the line; the shares."""
        if self._clock is None:
            return {}
        shares = self._clock.shares()
        if trainer.is_global_zero:
            workers = int(getattr(trainer.datamodule, "workers", 0))  # type: ignore[attr-defined]
            show(_LOG, f"time: {line(shares)}; {recommendation(shares, workers, cores())}")
        return shares


def line(shares: Mapping[Part, float]) -> str:
    """The parts by their share, largest first.

    Example:
        >>> line({"data": 0.052, "augmentation": 0.3, "network": 0.64, "validation": 0.0, "rest": 0.008})
        'network 64 %, augmentation 30 %, data 5 %, rest 1 %, validation 0 %'
    """
    return ", ".join(f"{part} {share:.0%}".replace("%", " %") for part, share in sorted(shares.items(), key=_size))


def _size(item: tuple[Part, float]) -> float:
    return -item[1]


def recommendation(shares: Mapping[Part, float], workers: int, n_cores: int) -> str:
    """What would save most, by the first of these that holds; a step is data, augmentation and network.

    - Data take more than 15 % of the steps: loader processes, more of them, or a faster disk.
    - Validation takes more than half of all: fewer validations.
    - Loggers, checkpoints and previews take more than 15 % of all: fewer of them.
    - Augmentation takes more than 30 % of the steps: lighter transforms.

    Args:
        shares: Of each part, as ``StepClock.shares`` gives them.
        workers: Loader processes.
        n_cores: Cores that this process may use.

    Example:
        >>> recommendation({"data": 0.3, "augmentation": 0.1, "network": 0.6, "validation": 0.0, "rest": 0.0}, 0, 8)
        'loader.workers=2 would read while the network computes'
    """
    steps = shares["data"] + shares["augmentation"] + shares["network"]
    if steps and shares["data"] / steps > 0.15:
        if workers or n_cores == 1:
            return (
                f"more than loader.workers={workers}, or a faster disk for cache_dir, would shorten the wait for data"
            )
        return f"loader.workers={max(1, n_cores // 4)} would read while the network computes"
    if shares["validation"] > 0.5:
        return "trainer.check_val_every_n_epoch=2 would validate half as often"
    if shares["rest"] > 0.15:
        return "callback.previews=null, or a higher checkpoint_minutes and trainer.log_every_n_steps, would save time"
    if steps and shares["augmentation"] / steps > 0.3:
        return "transform=light would augment for less, if the scores allow it"
    return "the network is what takes the time"
