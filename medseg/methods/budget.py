"""How much of a training's budget is spent, in whatever the budget is given."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import RunningStage


def progress(trainer: Trainer, steps_per_epoch: int) -> float:
    """Share of the budget spent, in [0, 1]: the largest of steps, epochs and time that are limited.

    Time is that of ``trainer.max_time``: since training began, validation included, over all resumes.

    Args:
        trainer: Running trainer.
        steps_per_epoch: Optimiser steps of one epoch.
    """
    spent = [0.0]
    if trainer.max_steps > 0:
        spent.append(trainer.global_step / trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        spent.append(trainer.global_step / (trainer.max_epochs * steps_per_epoch))
    for timer in timers(trainer):
        elapsed = timer.time_elapsed(RunningStage.TRAINING)
        left = timer.time_remaining(RunningStage.TRAINING)
        if left is not None and elapsed + left > 0:
            spent.append(elapsed / (elapsed + left))
    return min(max(spent), 1.0)


def timers(trainer: Trainer) -> list[Timer]:
    """What keeps the time, if it is limited."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
