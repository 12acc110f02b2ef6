"""Silences what libraries say at start-up that a user can do nothing about."""

from __future__ import annotations

import logging
import warnings


def settle() -> None:
    """Lower notes of libraries to warnings, and drop warnings that do not concern the user."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "numexpr"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # chosen by data.workers
        ".*exists and is not empty.*",  # a resumed run
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning within torch
        ".*Experiment logs directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message=message)
