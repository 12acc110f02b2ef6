"""Learning-rate schedules as pure functions of the share of the budget that is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
