"""BudgetBar: the progress of the whole budget, with time left and the current scores."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from medseg.methods.budget import progress
from medseg.runtime.console import show
from medseg.runtime.progress import clock as format_duration

_LOG = logging.getLogger(__name__)
_SCORES = {"train/loss": "loss", "val/dice": "dice", "val/miou": "mIoU", "val/loss": "held out"}


class BudgetBar(ProgressBar):
    """Shows how much of the budget is spent, the time left, and the latest loss and score.

    On a terminal it is one bar that stays in place. Elsewhere, as in a log file, it is one line an epoch, and one
    after each ``interval_s`` in which a step or the validation of a case ended.

    Args:
        interval_s: Seconds between two lines, at most, if there is no terminal.
        now: The clock, in seconds.
    """

    def __init__(self, *, interval_s: float = 60.0, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_s, self._now = interval_s, now
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began, self._fraction_before = 0.0, 0.0
        self._speed = Speed()
        self._line_at = 0.0
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def print(self, *args: object, **kwargs: object) -> None:
        """Print above the bar."""
        (self._bar.console if self._bar else Console()).print(*args)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar."""
        self._began = self._line_at = self._now()
        self._speed = Speed(trainer.global_step, self._began)
        self._fraction_before = self._fraction(trainer, pl_module)
        if self._enabled and trainer.is_global_zero and sys.stdout.isatty():
            columns = (
                BarColumn(bar_width=8),
                TextColumn("{task.percentage:.0f}% {task.description}"),
            )  # fits 80 characters
            self._bar = Progress(*columns)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Move the bar; without a terminal, print a line if the last one is long ago."""
        if self._bar is not None and self._task is not None:
            fraction = self._fraction(trainer, pl_module)
            self._bar.update(self._task, completed=fraction, description=self.line(trainer, pl_module))
        elif self._is_due():
            self._print_line(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the training steps."""
        self._speed.pause(self._now())

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Without a terminal, print a line if the last one is long ago: whole cases may take long."""
        if self._bar is None and self._is_due() and not trainer.sanity_checking:
            self._print_line(trainer, pl_module, f"  validating: {batch_idx + 1} of {sum(trainer.num_val_batches)}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the training steps again."""
        self._speed.resume(self._now())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without a terminal, print one line; an epoch ends after its validation."""
        if self._bar is None:
            self._print_line(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def line(self, trainer: Trainer, pl_module: LightningModule, *, full: bool = False) -> str:
        """Step, time left, and the scores logged last.

        Args:
            trainer: The trainer.
            pl_module: The method.
            full: With the number of steps and the steps a second since the last line: more than a terminal has room
                for.
        """
        fraction, elapsed = self._fraction(trainer, pl_module), self._now() - self._began
        gained = fraction - self._fraction_before
        left = format_duration(elapsed * (1 - fraction) / gained) if gained > 0 else "-"
        values = trainer.callback_metrics
        words = {key: word for key, word in _SCORES.items() if key in values}
        if "val/dice" in words:
            words.pop("val/loss", None)  # a line has 80 characters
        scores = "  ".join(f"{word} {float(values[key]):.4f}" for key, word in words.items())
        step, speed = f"step {trainer.global_step}", ""
        if full:
            total = _total_steps(trainer, _steps_per_epoch(pl_module))
            step += f" of {total}" if total else ""
            speed = f"{self._speed.since_last(trainer.global_step, self._now()):.3g} steps/s  "
        return f"{step}  {speed}{format_duration(elapsed)} spent, {left} left  {scores}"

    def _is_due(self) -> bool:
        return self._now() - self._line_at >= self._interval_s

    def _print_line(self, trainer: Trainer, pl_module: LightningModule, further: str = "") -> None:
        if self._enabled and trainer.is_global_zero:
            fraction = self._fraction(trainer, pl_module)
            show(_LOG, f"{fraction:4.0%} {self.line(trainer, pl_module, full=True)}{further}".rstrip())
        self._line_at = self._now()

    def _fraction(self, trainer: Trainer, pl_module: LightningModule) -> float:
        return progress(trainer, _steps_per_epoch(pl_module))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Speed:
    """Steps a second between two lines; the time that validations take does not count.

    Args:
        step: Step at which the count begins.
        now: Time at which it begins, in seconds.

    Example:
        >>> speed = Speed(step=100, now=0.0)
        >>> speed.pause(5.0)
        >>> speed.resume(25.0)
        >>> speed.since_last(130, 30.0)
        3.0
    """

    def __init__(self, step: int = 0, now: float = 0.0) -> None:
        self._step, self._since, self._speed = step, now, 0.0
        self._paused_at: float | None = None

    def pause(self, now: float) -> None:
        """A validation begins."""
        self._paused_at = now

    def resume(self, now: float) -> None:
        """A validation ended."""
        if self._paused_at is not None:
            self._since += now - self._paused_at
            self._paused_at = None

    def since_last(self, step: int, now: float) -> float:
        """Steps a second since the last call; what that returned if no step was taken."""
        until = now if self._paused_at is None else self._paused_at
        if step > self._step and until > self._since:
            self._speed = (step - self._step) / (until - self._since)
            self._step, self._since = step, until
        return self._speed


def _steps_per_epoch(pl_module: LightningModule) -> int:
    return int(getattr(pl_module, "steps_per_epoch", 1))


def _total_steps(trainer: Trainer, steps_per_epoch: int) -> int | None:
    """Steps of the budget; None if only its time is limited."""
    limits = [trainer.max_steps, (trainer.max_epochs or 0) * steps_per_epoch]
    return min((limit for limit in limits if limit > 0), default=None)
