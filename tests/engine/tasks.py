"""Functions that the tests of engines call in workers, which import this module."""

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import InputError

_LOG = logging.getLogger("medseg.tests")


@dataclass(frozen=True)
class Square:
    """The square of a number; some cases fail, some end their process.

    Attributes:
        folder: A file for each call.
        fails: Cases that raise ``InputError``.
        dies_once: Cases whose first call ends the process.
        dies: Cases whose every call ends the process.
    """

    folder: Path
    fails: tuple[int, ...] = ()
    dies_once: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()

    def __call__(self, case: int) -> int:
        calls = len(list(self.folder.glob(f"{case}-*")))
        (self.folder / f"{case}-{calls}").write_text(os.environ["OMP_NUM_THREADS"])
        if case in self.dies or (case in self.dies_once and not calls):
            os.kill(os.getpid(), signal.SIGKILL)
        _LOG.warning("case %d", case)
        if case in self.fails:
            raise InputError(f"case {case}: can't be read")
        return case * case


def divide(case: int) -> float:
    return 1 / case


def process(case: int) -> int:
    return os.getpid()


def wait_for_ever(case: Path) -> None:
    case.touch()
    while True:
        time.sleep(60)
