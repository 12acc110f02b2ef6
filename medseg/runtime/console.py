"""Console: what a command prints of the messages of medseg.

All of medseg speaks through ``logging.getLogger("medseg...")``, so that an application that uses it can filter or
redirect its messages. Commands attach one handler, which prints them:

- warnings and errors to stderr, as ``warning: ...`` and ``error: ...``;
- notes (``logger.info``) to stderr, as ``note: ...``;
- output (``show``: the start-up screen, progress lines, scores) to stdout as it is.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help does not wait for rich
    from rich.console import RenderableType

WIDTH = 80
"""Characters in a line of a table that is not printed to a terminal."""
_ROOT = logging.getLogger("medseg")
_PREFIXES = {logging.INFO: "note", logging.WARNING: "warning", logging.ERROR: "error"}


class ConsoleHandler(logging.Handler):
    """Prints the messages of medseg to the standard streams of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        try:
            output: RenderableType | None = getattr(record, "output", None)
            if output is None:
                prefix = _PREFIXES.get(record.levelno, record.levelname.lower())
                sys.stderr.write(f"{prefix}: {record.getMessage()}\n")
                sys.stderr.flush()
            else:
                _print(None, output)
        except Exception:  # as every handler: a message that can't be printed does not end what it is about
            self.handleError(record)


def show(logger: logging.Logger, output: RenderableType) -> None:
    """Log what belongs to the output of a command, at the level INFO.

    Args:
        logger: The logger of the module that has the output.
        output: A text, or a table of rich: printed in colours on a terminal; other handlers get its text.
    """
    if logger.isEnabledFor(logging.INFO):
        logger.info("%s", text_of(output), extra={"output": output}, stacklevel=2)


def text_of(output: RenderableType) -> str:
    """The output as plain text, without colours.

    Example:
        >>> text_of("Dice 0.9000")
        'Dice 0.9000'
    """
    if isinstance(output, str):
        return output
    written = io.StringIO()
    _print(written, output)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


@contextmanager
def messages() -> Iterator[None]:
    """Within, messages of medseg are printed as a command prints them, and are not passed on to other handlers.

    Nested uses print once.
    """
    if any(isinstance(handler, ConsoleHandler) for handler in _ROOT.handlers):
        yield
        return
    handler, level, propagates = ConsoleHandler(), _ROOT.level, _ROOT.propagate
    _ROOT.addHandler(handler)
    _ROOT.propagate = False
    if level == logging.NOTSET:
        _ROOT.setLevel(logging.INFO)
    try:
        yield
    finally:
        _ROOT.removeHandler(handler)
        _ROOT.setLevel(level)
        _ROOT.propagate = propagates


@contextmanager
def messages_unless_configured() -> Iterator[None]:
    """As ``messages`` in a script or notebook that has not set up logging; otherwise its handlers get them."""
    if _ROOT.hasHandlers():
        yield
        return
    with messages():
        yield


def _print(file: io.StringIO | None, output: RenderableType) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if isinstance(output, Table) and not console.is_terminal:
        console.width = WIDTH
    console.print(output, soft_wrap=not isinstance(output, Table))
