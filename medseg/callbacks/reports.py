"""Reports: tells somebody outside the score of each validation."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer


class Reports(Callback):
    """Hands each validation's score to ``tell``, which may end the training by an exception of its own.

    Attributes:
        interrupted: Whether the training was ended by Ctrl-C, which Lightning does not pass on.

    Args:
        key: Of the score, such as ``val/dice``.
        tell: Given the step and the score.
    """

    def __init__(self, key: str, tell: Callable[[int, float], None]) -> None:
        self.key, self.tell = key, tell
        self.interrupted = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell."""
        if not trainer.sanity_checking and self.key in trainer.callback_metrics:
            self.tell(trainer.global_step, float(trainer.callback_metrics[self.key]))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remember an interruption."""
        self.interrupted = isinstance(exception, KeyboardInterrupt)
