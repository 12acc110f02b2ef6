"""ReportScore: calls a function with the score of each validation."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer


class ReportScore(Callback):
    """Calls ``on_score`` after each validation; it may end the training by an exception.

    Attributes:
        interrupted: Whether the training was ended by Ctrl-C, which Lightning does not pass on.

    Args:
        key: Logged key of the score, such as ``val/dice``.
        on_score: Called with the step and the score.
    """

    def __init__(self, key: str, on_score: Callable[[int, float], None]) -> None:
        self.key, self.on_score = key, on_score
        self.interrupted = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score."""
        if not trainer.sanity_checking and self.key in trainer.callback_metrics:
            self.on_score(trainer.global_step, float(trainer.callback_metrics[self.key]))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record an interruption."""
        self.interrupted = isinstance(exception, KeyboardInterrupt)
