"""StepClock: how the time of a training is divided between data, augmentation, network, validation and the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from lightning.pytorch.profilers import Profiler

Part = Literal["data", "augmentation", "network", "validation", "rest"]
PARTS: tuple[Part, ...] = ("data", "augmentation", "network", "validation", "rest")
_ENDS: tuple[tuple[str, Part], ...] = (
    (".train_dataloader_next", "data"),
    (".batch_to_device", "data"),
    (".on_after_batch_transfer", "augmentation"),
    ("run_training_batch", "network"),
)


class StepClock(Profiler):
    """Adds up the time of each part of a training, from the actions that Lightning names to its profilers.

    An action within another one counts for itself alone, so that the parts add up to all of the time:

    - ``data``: waiting for the next batch and copying it to the device; without loader processes, reading it;
    - ``augmentation``: transforms of the batch;
    - ``network``: forward and backward pass, loss, gradient clipping and optimiser;
    - ``validation``: from its beginning to its end;
    - ``rest``: loggers, checkpoints, averaging of weights, previews.

    It is the time of this process. A GPU works on while the process queues the next operations, so there the parts say
    where the process waits: time in ``data`` is time in which nothing was queued.

    Args:
        now: The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._now = now
        self._open: list[Part | None] = []
        self.reset()

    def reset(self) -> None:
        """Count from here on, whatever actions are going on."""
        self.seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._outside: Part = "rest"
        self._since = self._now()

    def start(self, action_name: str) -> None:
        """An action begins; one that is no part by itself belongs to the action around it."""
        part = next((part for end, part in _ENDS if action_name.endswith(end)), None)
        if part:
            self._add()
        self._open.append(part)

    def stop(self, action_name: str) -> None:
        """The action that began last ends."""
        if self._open and self._open[-1]:
            self._add()
        if self._open:
            self._open.pop()

    def validating(self, begins: bool) -> None:
        """A validation begins or ends."""
        self._add()
        self._outside = "validation" if begins else "rest"

    def shares(self) -> dict[Part, float]:
        """Fraction of the time that each part has taken so far; zeros where none has passed."""
        self._add()
        total = sum(self.seconds.values())
        return {part: spent / total if total else 0.0 for part, spent in self.seconds.items()}

    def _add(self) -> None:
        """Give the time since the last change to the part that is going on."""
        now = self._now()
        inner = next((part for part in reversed(self._open) if part), None)
        part: Part = "validation" if self._outside == "validation" else inner or "rest"
        self.seconds[part] += now - self._since
        self._since = now
