"""Cases that failed, as the end of a command reports them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from medseg.errors import InputError

_LOG = logging.getLogger(__name__)


def report_failures(failed: Mapping[str, str], total: int, *, what: str, rest: str) -> None:
    """End a command that could not do all of its cases; several are listed as errors first.

    Args:
        failed: Reason by case; does nothing without any.
        total: Number of all cases.
        what: What could not be done, such as ``predicted``.
        rest: What is with the other cases, such as ``are in maps``.

    Raises:
        InputError: The only reason, or how many cases failed.

    Example:
        >>> report_failures({"a": "a.tif: is damaged"}, 3, what="predicted", rest="are in maps")
        Traceback (most recent call last):
        ...
        medseg.errors.InputError: a.tif: is damaged (the other 2 of 3 cases are in maps)
    """
    if not failed:
        return
    done = f"the other {total - len(failed)} of {total} cases {rest}" if total > len(failed) else ""
    first, reasons = next(iter(failed.values())), set(failed.values())
    if len(failed) == 1 or (len(reasons) == 1 and not done):
        raise InputError(f"{first} ({done})" if done else first)
    for case, reason in failed.items():
        _LOG.error("%s: %s", case, reason)
    raise InputError(
        f"{len(failed)} of {total} cases could not be {what} and are listed above; {done or f'the first: {first}'}"
    )
