"""Learning-rate schedules as pure functions of the share of the budget that is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from medseg.errors import InputError


@dataclass(frozen=True)
class Poly:
    """``(1 - progress) ** power``, after a linear warm-up (nnU-Net's schedule has none).

    Attributes:
        power: Exponent.
        warmup: Share of the budget over which the rate rises from 0.
    """

    power: float = 0.9
    warmup: float = 0.0

    def __call__(self, progress: float) -> float:
        """Factor of the base learning rate, in [0, 1], at ``progress`` in [0, 1]."""
        return _ramp(progress, self.warmup) * (1 - progress) ** self.power


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to ``final``, after a linear warm-up.

    Attributes:
        warmup: Share of the budget over which the rate rises from 0.
        final: Factor at the end.
    """

    warmup: float = 0.02
    final: float = 0.0

    def __call__(self, progress: float) -> float:
        """Factor of the base learning rate, in [0, 1], at ``progress`` in [0, 1]."""
        curve = self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return _ramp(progress, self.warmup) * curve


@dataclass(frozen=True)
class MultiStep:
    """A factor of ``gamma`` at each milestone, after a linear warm-up.

    Attributes:
        milestones: Shares of the budget after which the rate falls, increasing.
        gamma: Factor at each of them.
        warmup: Share of the budget over which the rate rises from 0.

    Raises:
        InputError: Milestones that are no increasing shares, or a factor outside of 0 to 1.
    """

    milestones: Sequence[float] = (0.6, 0.9)
    gamma: float = 0.1
    warmup: float = 0.0

    def __post_init__(self) -> None:
        shares = [0.0, *self.milestones, 1.0]
        if any(not a < b for a, b in pairwise(shares)):
            raise InputError(
                f"scheduler.milestones={list(self.milestones)}: expected increasing shares of the budget between 0 and "
                "1, as in [0.6,0.9]"
            )
        if not 0 < self.gamma <= 1:
            raise InputError(f"scheduler.gamma={self.gamma}: expected a factor above 0 and at most 1, such as 0.1")

    def __call__(self, progress: float) -> float:
        """Factor of the base learning rate, in [0, 1], at ``progress`` in [0, 1]."""
        passed = sum(progress >= milestone for milestone in self.milestones)
        return _ramp(progress, self.warmup) * self.gamma**passed


@dataclass(frozen=True)
class Constant:
    """1 throughout, after a linear warm-up.

    Attributes:
        warmup: Share of the budget over which the rate rises from 0.
    """

    warmup: float = 0.0

    def __call__(self, progress: float) -> float:
        """Factor of the base learning rate, in [0, 1], at ``progress`` in [0, 1]."""
        return _ramp(progress, self.warmup)


def _ramp(progress: float, warmup: float) -> float:
    return min(1.0, (progress + 1e-3) / warmup) if warmup > 0 else 1.0
