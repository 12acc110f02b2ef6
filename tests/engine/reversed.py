"""An engine for tests of what uses engines."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from medseg.engine.calls import attempt
from medseg.engine.engine import Engine


class Reversed(Engine):
    """Works in this process as others do, on what was pickled; gives three results at a time, the last one first."""

    in_process = False

    def __init__(self, *, elsewhere: bool = False, before: Callable[[], object] = list) -> None:
        self.apart, self.before = elsewhere, before

    @property
    def elsewhere(self) -> bool:
        return self.apart

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass

    def map(self, function: Callable[[Any], Any], cases: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        self.before()
        pickled, waiting = pickle.dumps(function), []
        for case in cases:
            waiting.append((case, self.called(pickled, pickle.dumps(case))))
            if len(waiting) == 3:
                yield from reversed(waiting)
                waiting = []
        yield from reversed(waiting)

    def called(self, function: bytes, case: bytes) -> Any:
        return attempt(pickle.loads(function), pickle.loads(case))
