"""The fit of a training, and the one line that says how it ended where it did not come to its end."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.callbacks.resumable import Resumable
from medseg.errors import InputError
from medseg.runtime import distributed, signals

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from medseg.factory.run import Run

_LOG = logging.getLogger(__name__)


def fit(run: Run, run_dir: Path, resumed: Path | None, overrides: Sequence[str]) -> None:
    """Train until the budget is spent.

    Args:
        run: The parts of the training.
        run_dir: The run folder.
        resumed: Checkpoint to continue from.
        overrides: Words of the command, from which the command to continue with is made; empty in Python.

    Raises:
        InputError: The weights of the checkpoint do not fit the network.
        EndedBySignal: A signal ended it, after a checkpoint was saved.
        SystemExit: Another process of the training ended, with 1; or this one was started by the first one, which
            says that a signal ended all, with 0.
    """
    trainer = run.trainer
    try:
        with signals.handled(), signals.deferred():
            trainer.fit(run.method, run.datamodule, ckpt_path=str(resumed) if resumed else None, weights_only=True)
    except signals.EndedBySignal as ended:
        ended.told = True
        _warn_of_signal(ended, trainer, run_dir, overrides)
        if distributed.handed() is not None:  # Lightning kills the first process where one that it started fails
            sys.exit(0)
        raise
    except RuntimeError as error:
        if resumed and "loading state_dict" in str(error):
            raise _misfit(resumed) from error
        if trainer.world_size > 1 and distributed.lost_another(error):
            _LOG.error(
                "rank %d: another process of this training ended; see its last line, or whether it was killed. %s",
                trainer.global_rank,
                _further(trainer, run_dir, overrides),
            )
            sys.exit(1)
        raise


def _warn_of_signal(ended: signals.EndedBySignal, trainer: Trainer, run_dir: Path, overrides: Sequence[str]) -> None:
    """One line of the first process: the signal, the step, and the command to continue with."""
    if trainer.is_global_zero:
        further = _further(trainer, run_dir, overrides)
        _LOG.warning("ended by %s at step %d; %s", ended.name, trainer.global_step, further)


def _misfit(resumed: Path) -> InputError:
    return InputError(
        f"ckpt_path={resumed}: its weights do not fit the network of this command; leave model, plan and data "
        "as they were (config.yaml and plan.yaml of the run have them), or train in another run_dir"
    )


def _further(trainer: Trainer, run_dir: Path, overrides: Sequence[str]) -> str:
    """The command to continue with, and the step of its checkpoint if that is an earlier one."""
    other = [word for word in overrides if word.lstrip("+").partition("=")[0] not in ("ckpt_path", "run_dir")]
    words = ["medseg-train", *(shlex.quote(word) for word in other)] if overrides else ["the same settings with"]
    command = " ".join([*words, shlex.quote(f"run_dir={run_dir}"), "ckpt_path=last"])
    saved = next((c.saved_step for c in trainer.callbacks if isinstance(c, Resumable)), None)  # type: ignore[attr-defined]
    if saved is None:
        return f"no checkpoint was saved yet; start again with: {command}"
    where = "" if saved == trainer.global_step else f" from step {saved}"
    return f"continue{where} with: {command}"
