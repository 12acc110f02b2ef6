"""BudgetBar: one bar for the whole budget, with time left and the current scores."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from medseg.methods.budget import progress
from medseg.runtime.progress import clock


class BudgetBar(ProgressBar):
    """Shows how much of the budget is spent, the time left, and the latest loss and score.

    On a terminal it is one bar that stays in place; elsewhere it is one line an epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began, self._share_before = 0.0, 0.0
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        (self._bar.console if self._bar else Console()).print(*args)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the bar."""
        self._began = time.monotonic()
        self._share_before = self._share(trainer, pl_module)
        if self._enabled and trainer.is_global_zero and sys.stdout.isatty():
            columns = (
                BarColumn(bar_width=8),
                TextColumn("{task.percentage:.0f}% {task.description}"),
            )  # fits 80 letters
            self._bar = Progress(*columns)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            share = self._share(trainer, pl_module)
            self._bar.update(self._task, completed=share, description=self.line(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without a terminal, print one line; an epoch ends after its validation."""
        if self._enabled and self._bar is None and trainer.is_global_zero:
            share = self._share(trainer, pl_module)
            print(f"{share:4.0%} {self.line(trainer, pl_module)}", flush=True)  # noqa: T201

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def line(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Step, time left, and the scores logged last."""
        share, elapsed = self._share(trainer, pl_module), time.monotonic() - self._began
        gained = share - self._share_before
        left = clock(elapsed * (1 - share) / gained) if gained > 0 else "-"
        known = trainer.callback_metrics
        words = {"train/loss": "loss", "val/dice": "dice", "val/miou": "mIoU", "val/loss": "held out"}
        if "val/dice" in known:
            del words["val/loss"]  # a line has 80 characters
        scores = "  ".join(f"{word} {float(known[key]):.4f}" for key, word in words.items() if key in known)
        return f"step {trainer.global_step}  {clock(elapsed)} spent, {left} left  {scores}"

    def _share(self, trainer: Trainer, pl_module: LightningModule) -> float:
        return progress(trainer, int(getattr(pl_module, "steps_per_epoch", 1)))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
