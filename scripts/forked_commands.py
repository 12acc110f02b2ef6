"""Commands as forks of one process that has imported what they need, on cases that the package draws.

Used by kill_tests.py and disk_tests.py.
"""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COMMON = [
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.deterministic=true", "plan.batch_size=1",
    "inference.overlap=0.25", "inference.flips=false", "callback.previews=null", "logger=csv", "metric=overlap",
    "model.base_features=4",
]  # fmt: skip
VOLUMES = [
    "data=phantom_volumes", "data.n_cases=6", "data.n_test=3", "split.n_folds=3", "data.shape=[24,28,20]",
    "trainer.steps_per_epoch=3", "plan.patch=[16,16,16]", "trainer.max_steps=9", *COMMON,
]  # fmt: skip
SCENES = [
    "data=phantom_scenes", "data.n_scenes=3", "data.n_test=2", "split.n_folds=3", "data.shape=[96,128]",
    "trainer.steps_per_epoch=2", "plan.patch=[32,32]", "trainer.max_steps=2", "test=false", *COMMON,
]  # fmt: skip
LIMIT = 600  # seconds that a command may take


@dataclass
class Tally:
    """What became of the kills of one command."""

    kills: int = 0
    equal: int = 0
    early: int = 0
    failures: list[str] = field(default_factory=list)


def load() -> None:
    """Import what commands import, once, before the forks."""
    import torch

    torch.set_num_threads(1)
    for module in ("announcement", "build", "evaluate", "evaluation", "judge", "predict", "restore", "scenes", "train"):
        importlib.import_module(f"medseg.{module}")


def start(command: str, words: Sequence[str], log: Path) -> int:
    """Fork a process that runs ``medseg-<command>``; its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.argv = [f"medseg-{command}", *words]
    code = 70
    try:
        importlib.import_module(f"medseg.{command}").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, until: Callable[[], bool] = lambda: False) -> int | None:
    """Exit code of a process (negative: its signal), or None as soon as ``until`` holds."""
    began = time.monotonic()
    while time.monotonic() - began < LIMIT:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if until():
            return None
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -99


def run(command: str, words: Sequence[str], log: Path) -> int | None:
    return ended(start(command, words, log))


def drafts(*folders: Path) -> list[str]:
    """Hidden files and folders that were left behind."""
    return [str(path) for folder in folders for path in folder.rglob(".*")]


def settled(folder: Path, command: str, words: Sequence[str]) -> None:
    """Run a command that must succeed."""
    if code := run(command, words, folder / "log"):
        sys.exit(
            f"medseg-{command} {shlex.join(words)} ended with {code}:\n{(folder / 'log').read_text(encoding='utf-8')}"
        )


def prediction(folder: Path, kind: str) -> list[str]:
    """Words of a prediction by a network that is trained when first asked for; ``output`` is left out."""
    run_dir = folder / f"{kind}-trained"
    if not run_dir.exists():
        words = {"volumes": VOLUMES, "scenes": SCENES}[kind]
        settled(folder, "train", [*words, "test=false", f"cache_dir={folder}/cache", f"run_dir={run_dir}"])
    images = next(folder.glob(f"cache/phantom_{kind}/*/{'imagesTs' if kind == 'volumes' else 'images'}"))
    words = [f"checkpoint={run_dir}/checkpoints/best.ckpt", f"input={images}", "device=cpu"]
    return words if kind == "volumes" else [*words, "probabilities=true", "polygons=true"]


def evaluation(folder: Path) -> list[str]:
    """Words of an evaluation of such a prediction."""
    if not (folder / "predicted").exists():
        settled(folder, "predict", [*prediction(folder, "volumes"), f"output={folder}/predicted"])
    labels = next(folder.glob("cache/phantom_volumes/*/labelsTs"))
    return [f"predictions={folder}/predicted", f"labels={labels}"]
