"""EMA: weights averaged over the steps of a training; they are validated, saved and tested."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from medseg.errors import InputError


def decay_at(n: int, decay: float, share: float) -> float:
    """Weight of the previous average after ``n`` states: ``min(decay, (1 + n) / (1 + n + 1 / share))``.

    Example:
        >>> [round(decay_at(n, decay=0.99, share=1 / 9), 2) for n in (1, 10, 100, 10_000)]
        [0.18, 0.55, 0.92, 0.99]
    """
    return min(decay, (1 + n) / (1 + n + 1 / share))


class EMA(WeightAveraging):
    """Exponential moving average of weights and of the statistics of normalisation.

    The average reaches back over ``share`` of the steps so far, until that is ``1 / (1 - decay)`` steps. So the random
    first state does not rule it for long: 100 steps into a training of a U-Net with batch normalisation, a decay of
    0.99 from the start gave a Dice of 0.41 where the weights themselves had 0.82. Lightning's
    ``EMAWeightAveraging`` has that fixed decay. A checkpoint holds the same, so that either resumes the other's.

    A wide average (``share`` of a half, a ``decay`` that is never reached) is for few scenes or patients, where what is
    right on unseen ones comes and goes between steps.

    Args:
        decay: Largest part that the average keeps, in [0, 1): 0.99 averages over about the last 100 steps.
        share: Of the steps so far, in (0, 1].

    Raises:
        InputError: Numbers outside their ranges.

    References:
        TensorFlow's ``ExponentialMovingAverage`` with ``num_updates`` has the rising decay with a share of 1/9.
        Averages of constant relative width: Karras et al., Analyzing and Improving the Training Dynamics of
        Diffusion Models, 2024. Wide averages for unseen domains: Cha et al., SWAD, 2021.
    """

    def __init__(self, decay: float = 0.99, share: float = 1 / 9) -> None:
        if not 0 <= decay < 1:
            raise InputError(
                f"callback.ema.decay={decay}: expected 0 <= decay < 1, such as 0.99 (none: callback.ema=null)"
            )
        if not 0 < share <= 1:
            raise InputError(f"callback.ema.share={share}: expected 0 < share <= 1, such as 0.1")
        self.decay, self.share = decay, share
        super().__init__(use_buffers=True, multi_avg_fn=self._average)

    @torch.no_grad()
    def _average(self, averaged: Any, current: Any, n_averaged: Tensor) -> None:
        decay = decay_at(int(n_averaged), self.decay, self.share)
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:  # counters, such as those of batch normalisation
            torch._foreach_copy_(averaged, current)
