"""Silences what libraries say at start-up that a user can do nothing about."""

from __future__ import annotations

import logging
import os
import warnings


def settle(*, tracker: bool = False) -> None:
    """Lower notes of libraries to warnings, and drop warnings that do not concern the user.

    Args:
        tracker: Let W&B speak, as it should where it gives the address of the run.
    """
    if not tracker:
        os.environ.setdefault("WANDB_SILENT", "true")
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.fabric.utilities.distributed",
        "lightning.pytorch.utilities.rank_zero",
        "numexpr",
        "pyogrio",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # counts its tries; what comes of them is told once
    for message in (
        ".*does not have many workers.*",  # chosen by loader.workers
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning within torch
        ".*exists and is not empty.*",  # a resumed run, whose files are kept
        ".*sync_dist=True.*",  # scores are gathered case by case, and are the same in every process
    ):
        warnings.filterwarnings("ignore", message=message)
