"""What an engine is: cases go in, the result of each or the reason why there is none comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """Why a case has no result.

    Attributes:
        reason: One line, as of an ``InputError``.
    """

    reason: str


class Engine(ABC):
    """Calls a function for many cases.

    Used as a context manager: at its end, also by a signal, the workers that it started end too.
    """

    @property
    @abstractmethod
    def in_process(self) -> bool:
        """Whether functions run in this process, one case after the other, and may hold anything.

        Otherwise functions, cases and results are pickled, so they name files instead of holding arrays or networks.
        Paths may be relative to the working directory of this process.
        """

    @property
    @abstractmethod
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines, with devices of their own."""

    @abstractmethod
    def check(self) -> None:
        """See that the engine can work, within seconds and without starting anything.

        Raises:
            InputError: A package is missing, or nobody answers at an address.
        """

    @abstractmethod
    def map(self, function: Callable[[C], R], cases: Iterable[C]) -> Iterator[tuple[C, R | Failure]]:
        """Call ``function`` for each case.

        A case is taken from ``cases`` when a worker is free for it, so that an iterator of any length may be given, and
        one that depends on earlier results. Its result is given when it is there, in any order.

        A case whose worker dies is begun again by another one, a bounded number of times.

        Args:
            function: An ``InputError`` that it raises is the ``Failure`` of the case; other exceptions end all.
            cases: What it is called with.

        Yields:
            Each case with its result.
        """

    @abstractmethod
    def close(self) -> None:
        """End the workers that the engine started, whatever they are doing."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
