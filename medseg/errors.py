"""InputError: the error for what the user can fix. Commands print it as one line and exit with 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Input, configuration or file that medseg refuses, told in one line.

    The message says what came, what was expected and the way out. Commands print it without a
    traceback; every other exception is a defect of medseg and keeps its traceback.
    """


@contextmanager
def rename_keys(*words: tuple[str, str]) -> Iterator[None]:
    """Around code whose messages name a key of the configuration that is called otherwise where it is used.

    Args:
        words: What the messages say, and what is told instead, in this order.

    Raises:
        InputError: That of the code within, in these words.

    Example:
        >>> with rename_keys(("model.encoder.weights", "weights")):
        ...     raise InputError("model.encoder.weights=a.pt: no such file")
        Traceback (most recent call last):
        ...
        medseg.errors.InputError: weights=a.pt: no such file
    """
    try:
        yield
    except InputError as error:
        line = str(error)
        for said, told in words:
            line = line.replace(said, told)
        raise InputError(line) from error
