"""Watching: what is done of a number of cases, the time left and the scores so far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from medseg.runtime.console import show

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")
_SILENCE = 60.0  # seconds after which a line is due where there is no terminal


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Watch:
    """Shows what is done of a number of cases, the time left and the scores so far.

    On a terminal it is one bar that stays in place; elsewhere a line after each tenth of the work, and after each
    minute in which a case or a part of one was finished.

    Args:
        what: Such as ``predicting``.
        total: Number of cases.
        so_far: Gives the current scores, as a text.
    """

    def __init__(self, what: str, total: int, *, so_far: Callable[[], str] = str) -> None:
        self._what, self._total, self._so_far = what, total, so_far
        self._console = Console(highlight=False)
        columns = (BarColumn(bar_width=8), TextColumn("{task.percentage:.0f}% {task.description}", markup=False))
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(what, total=max(total, 1))
        self._began = self._last = time.monotonic()
        self._done, self._tenths = 0, 0

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def part(self, done: int, whole: int) -> None:
        """A part of the current case is done.

        Args:
            done: Rows, or other units, that are done; once all are, ``advance`` follows.
            whole: How many there are.
        """
        if done < whole:
            self._show(self._done + done / whole, f" (row {done} of {whole})")

    def advance(self) -> None:
        """Another case is done."""
        self._done += 1
        self._show(self._done, "")

    def _show(self, done: float, rows: str) -> None:
        now = time.monotonic()
        left = clock((now - self._began) * (self._total - done) / done) if done else "-"
        times = f"{clock(now - self._began)} spent, {left} left"
        line = f"{self._what}: {self._done} of {self._total}{rows}  {times}  {self._so_far()}".rstrip()
        self._bar.update(self._task, completed=done, description=line)
        tenths = int(done * 10 / self._total + 1e-9)
        if not self._console.is_terminal and (tenths > self._tenths or now - self._last >= _SILENCE):
            self._tenths, self._last = max(tenths, self._tenths), now
            show(_LOG, line)


def watched(cases: Collection[_T], what: str, *, so_far: Callable[[], str] = str) -> Iterator[_T]:
    """The cases one by one, while a ``Watch`` shows what is done of them.

    Args:
        cases: What is worked on.
        what: Such as ``predicting``.
        so_far: Gives the current scores, as a text.
    """
    with Watch(what, len(cases), so_far=so_far) as watch:
        for case in cases:
            yield case
            watch.advance()
