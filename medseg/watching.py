"""Watching: what is done of a number of cases, the time left and the scores so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_T = TypeVar("_T")


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def watched(cases: Collection[_T], what: str, *, so_far: Callable[[], str] = str) -> Iterator[_T]:
    """The cases one by one, while what is done of them, the time left and the scores so far are shown.

    On a terminal it is one bar that stays in place; elsewhere a line after each tenth of the cases.

    Args:
        cases: What is worked on.
        what: Such as ``predicting``.
        so_far: Gives the current scores, as a text.
    """
    console, began, told = Console(highlight=False), time.monotonic(), 0
    columns = (BarColumn(bar_width=8), TextColumn("{task.percentage:.0f}% {task.description}", markup=False))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=len(cases))
        for done, case in enumerate(cases, start=1):
            yield case
            spent = time.monotonic() - began
            left = clock(spent * (len(cases) - done) / done)
            line = f"{what}: {done} of {len(cases)}  {clock(spent)} spent, {left} left  {so_far()}".rstrip()
            bar.update(task, completed=done, description=line)
            if not console.is_terminal and done * 10 // len(cases) > told:
                told = done * 10 // len(cases)
                console.print(line, soft_wrap=True, markup=False)
