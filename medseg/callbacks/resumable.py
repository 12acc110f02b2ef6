"""Resumable: saves ``last.ckpt`` within an epoch, when a signal ends the training and every so many minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging

from medseg.errors import InputError
from medseg.runtime import signals

_BEFORE_FIRST = {
    "total": {"ready": 1, "completed": 0, "started": 1, "processed": 0},
    "current": {"ready": 0, "completed": 0, "started": 0, "processed": 0},
    "is_last_batch": False,
}
"""Progress of a validation loop that Lightning takes for interrupted, and runs again from its first case."""


class Resumable(Checkpoint):
    """Saves checkpoints within an epoch, from which a training continues exactly as if it had not ended.

    Samples are a function of the step, so only the position of the loops must be right. After a step, the loader
    continues with the next one of the epoch (``StepLoader``). Where a signal arrives within a validation, the
    checkpoint is that before its first case, and the resumed training repeats the validation. The validation after the
    last step of the budget would not be repeated, so that one is not interrupted by the first signal.

    Several processes end together: after a step, before a validation, or after one.

    Attributes:
        saved_step: Step of the last checkpoint of this training, None before the first one.

    Args:
        path: The checkpoint, ``last.ckpt`` of the run.
        minutes: Wall-clock time between two checkpoints, above 0; None saves for signals only.

    Raises:
        InputError: ``minutes`` is not a positive number.
    """

    def __init__(self, path: Path, minutes: float | None) -> None:
        if minutes is not None and not (isinstance(minutes, int | float) and minutes > 0):
            raise InputError(f"checkpoint_minutes={minutes}: expected minutes above 0, such as 30, or null")
        self.path, self.minutes = path, minutes
        self.saved_step: int | None = None
        self._saved_at = time.monotonic()
        self._validates = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and take signals over from the handlers that Lightning has just registered.

        With several processes, Lightning's handlers would broadcast amid the communication of the others.
        """
        signals.install()
        self._saved_at = time.monotonic()
        if trainer.ckpt_path:
            self.saved_step = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Number what is logged by steps of the optimiser: Lightning counts one too many each time it resumes."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save where it is due, and end where a signal was received; unless a validation or more gradients follow."""
        due = self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes
        if ends_within_epoch(trainer, batch_idx):
            self._save(trainer, pl_module, due=due)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End before a validation, if a signal was received."""
        if _repeats_validation(trainer):
            self._validates = True
            self._save(trainer, pl_module)
            self._validates = False

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """End within a validation if a signal was received; with several processes, after it."""
        if signals.pending() and trainer.world_size == 1 and _repeats_validation(trainer):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):  # put back the weights that are trained
                    callback.on_validation_epoch_end(trainer, pl_module)
            self.on_validation_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End after an epoch, whose checkpoint has just been saved."""
        self.saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if signum := _agreed(trainer, due=False)[0]:
            raise signals.EndedBySignal(signum)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store an unfinished validation as one that has not scored any case yet."""
        if self._validates:
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = _BEFORE_FIRST

    def _save(self, trainer: Trainer, pl_module: LightningModule, *, due: bool = False) -> None:
        signum, due = _agreed(trainer, due=due)
        if signum or due:
            trainer.save_checkpoint(self.path)
            self.saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if signum:
            raise signals.EndedBySignal(signum)


def ends_within_epoch(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the next thing after this batch is another batch of the epoch, with no gradients carried over."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if trainer.should_stop or progress.is_last_batch or trainer.global_step == trainer.max_steps:
        return False
    if (batch_idx + 1) % trainer.accumulate_grad_batches:
        return False
    done = batch_idx + 1 if trainer.check_val_every_n_epoch is not None else progress.total.ready
    every = trainer.val_check_batch
    return every is None or done % every != 0


def _repeats_validation(trainer: Trainer) -> bool:
    """Whether a training that resumes before this validation runs it: not after the last step of the budget."""
    if trainer.sanity_checking or trainer.should_stop or trainer.global_step == trainer.max_steps:
        return False
    progress = trainer.fit_loop.epoch_progress.current
    return trainer.max_epochs in (None, -1) or progress.processed + 1 < trainer.max_epochs  # type: ignore[attr-defined]


def _agreed(trainer: Trainer, *, due: bool) -> tuple[int, bool]:
    """The signal that any process has received (0: none), and whether any has a checkpoint due."""
    flags = torch.tensor([signals.pending(), int(due)], device=trainer.strategy.root_device)
    if trainer.world_size > 1:
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    return int(flags[0]), bool(flags[1])
