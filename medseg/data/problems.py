"""Problems: what is wrong with the cases of a dataset, collected over all of them and then refused at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from medseg.data.case import first_five
from medseg.errors import InputError

_LOG = logging.getLogger(__name__)

_SHOWN = 20


class Problems:
    """Cases that can't be used, with the reason.

    Attributes:
        found: Message by case id.

    Example:
        >>> problems = Problems()
        >>> with problems.of("c1"):
        ...     raise InputError("case c1: no such file")
        >>> problems.found
        {'c1': 'case c1: no such file'}
    """

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    @contextmanager
    def of(self, case_id: str) -> Iterator[None]:
        """Around what is done with a case: keeps its ``InputError``; every other exception goes through."""
        try:
            yield
        except InputError as error:
            self.found[case_id] = str(error)  # without the traceback, which would keep the arrays of the case

    def check(self, total: int) -> None:
        """End with what was found; of several cases a line each, 20 at most, goes to stderr before.

        Args:
            total: Number of the cases that were looked at.

        Raises:
            InputError: The problem of a single case, or how many cases have one.
        """
        if not self.found:
            return
        if len(self.found) == 1:
            raise InputError(*self.found.values())
        for case_id, message in list(self.found.items())[:_SHOWN]:
            where = "" if case_id in message else f"case {case_id}: "
            _LOG.warning("%s%s", where, message)
        raise InputError(
            f"{len(self.found)} of {total} cases cannot be used: {first_five(list(self.found))}; fix their files, or "
            "take them out (medseg-check data=... lists all problems)"
        )
