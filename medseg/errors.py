"""InputError: an error that the user can fix. Commands print it as one line and exit with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
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


def nearest(name: str, candidates: Iterable[str], *, n: int = 3) -> str:
    """The part of a message that names the nearest of ``candidates``, however unlike they are.

    Example:
        >>> nearest("resnet51", ["vit", "resnet50", "resnet18"], n=2)
        'the nearest are resnet50, resnet18'
    """
    return f"the nearest are {', '.join(difflib.get_close_matches(name, list(candidates), n=n, cutoff=0.0))}"


def similar(name: str, candidates: Iterable[str], *, n: int = 3, cutoff: float = 0.5) -> list[str]:
    """Names of which ``name`` may be a misspelling, the most similar first; empty if there are none.

    Args:
        name: What was given.
        candidates: What there is.
        n: Names at most.
        cutoff: Least similarity, from 0 to 1 (``difflib.SequenceMatcher.ratio``).

    Example:
        >>> similar("trian", ["train", "test", "predict"]), similar("x", ["train"])
        (['train'], [])
    """
    return difflib.get_close_matches(name, list(candidates), n=n, cutoff=cutoff)
