"""PictureLogger: a logger that shows pictures as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from lightning.pytorch import Trainer

from medseg.viz.logged_images import Picture


class PictureLogger(ABC):
    """What every logger of ours takes besides numbers and settings."""

    @abstractmethod
    def log_pictures(self, pictures: Mapping[str, Sequence[Picture]], step: int) -> None:
        """Show pictures.

        Args:
            pictures: By key, such as ``val/previews/<case>``, the views of a case.
            step: Optimiser steps so far.
        """


def picture_loggers(trainer: Trainer) -> list[PictureLogger]:
    """Those of the trainer's loggers that show pictures."""
    return [logger for logger in trainer.loggers if isinstance(logger, PictureLogger)]
