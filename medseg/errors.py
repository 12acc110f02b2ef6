"""InputError: an error that the user can fix. Commands print it as one line and exit with 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Input, configuration or file that can't be used, with a message of one line.

    The message says what was found, what was expected and how to fix it. Commands print it without a
    traceback; every other exception is a defect of medseg and keeps its traceback.
    """


@contextmanager
def rename_keys(*words: tuple[str, str]) -> Iterator[None]:
    """Rename configuration keys in the messages of errors that are raised inside.

    Args:
        words: Pairs of a key in the messages and its replacement; applied in this order.

    Raises:
        InputError: The error that was raised inside, with the keys renamed.

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
        for old, new in words:
            line = line.replace(old, new)
        raise InputError(line) from error
