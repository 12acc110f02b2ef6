"""Messages of libraries that a user can do nothing about, left out while medseg works."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LEAST = {
    "lightning.pytorch": logging.WARNING,
    "lightning.pytorch.trainer.connectors.checkpoint_connector": logging.WARNING,  # Lightning sets the level above
    "lightning.fabric": logging.WARNING,
    "lightning.fabric.utilities.distributed": logging.WARNING,
    "lightning.pytorch.utilities.rank_zero": logging.WARNING,
    "numexpr": logging.WARNING,
    "pyogrio": logging.WARNING,
    "huggingface_hub": logging.ERROR,  # counts its attempts; medseg reports the last one
}
"""Logger of a library -> least level of the messages that are shown."""
_IGNORED = (
    ".*does not have many workers.*",  # set by loader.workers
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning within torch
    ".*module\\(s\\) in eval mode at the start of training.*",  # a teacher, which stays so
    ".*exists and is not empty.*",  # a resumed run, whose files stay
    ".*sync_dist=True.*",  # scores are gathered case by case, and are the same in every process
)
"""Patterns of warnings."""


class _AtLeast(logging.Filter):
    """Drops messages below a level; unlike a logger's level, a library does not set it when it is imported."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is shown."""
        return record.levelno >= self.level


@contextmanager
def _only_from(logger: logging.Logger, level: int) -> Iterator[None]:
    """Within, a logger and those below it show messages from a level on.

    Loggers below inherit the level, and no filter; a library that sets the level when it is imported leaves the filter.
    """
    before, least = logger.level, _AtLeast(level)
    logger.addFilter(least)
    logger.setLevel(max(before, level))
    changed = logger.level
    try:
        yield
    finally:
        logger.removeFilter(least)
        if logger.level == changed:
            logger.setLevel(before)


@contextmanager
def quiet_libraries(*, tracker: bool = False) -> Iterator[None]:
    """Within, notes of libraries and warnings that do not concern the user are left out; afterwards all is as before.

    Args:
        tracker: Whether W&B prints, as it should where it gives the address of the run.
    """
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        for message in _IGNORED:
            warnings.filterwarnings("ignore", message=message)
        for name, level in _LEAST.items():
            undo.enter_context(_only_from(logging.getLogger(name), level))
        if not tracker and "WANDB_SILENT" not in os.environ:
            os.environ["WANDB_SILENT"] = "true"
            undo.callback(os.environ.pop, "WANDB_SILENT", None)
        yield
