"""EarlyStop: ends a training whose score has not improved for some validations."""

from __future__ import annotations

import logging

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from medseg.errors import InputError
from medseg.runtime.console import show

_LOG = logging.getLogger(__name__)


class EarlyStop(EarlyStopping):
    """Lightning's early stopping, by validations, with one line when it ends the training.

    The count is saved in checkpoints: a resumed training ends where an uninterrupted one does, and a training that was
    stopped takes no further step.

    Args:
        monitor: Logged key, such as ``val/dice``.
        mode: ``max`` or ``min``, which is best.
        patience: Validations in a row that are no better than the best one.
        min_delta: A score is better if it is by more than this.

    Raises:
        InputError: Numbers outside their ranges.
    """

    def __init__(self, *, monitor: str, mode: str, patience: float, min_delta: float = 0.0) -> None:
        if patience < 1 or patience != int(patience):
            raise InputError(f"early_stopping.patience={patience}: expected a number of validations from 1 on, or null")
        if not min_delta >= 0:
            raise InputError(f"early_stopping.min_delta={min_delta}: expected a difference of scores from 0 on")
        super().__init__(
            monitor,
            min_delta=min_delta,
            patience=int(patience),
            mode=mode,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Continue the count, with the patience of this training."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A training that had been stopped stays stopped when it is resumed."""
        if self.wait_count >= self.patience:
            self._stop(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, and end the training when patience is over."""
        super().on_validation_end(trainer, pl_module)
        if self.wait_count >= self.patience and not trainer.sanity_checking:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        trainer.should_stop = True
        if trainer.is_global_zero:
            show(
                _LOG,
                f"Stopped early at step {trainer.global_step}: {self.monitor} has not been better than "
                f"{float(self.best_score):.4f} for {self.patience} validations (early_stopping.patience)",
            )
