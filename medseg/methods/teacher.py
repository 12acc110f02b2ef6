"""Teachers: networks that a method learns from, and that no optimiser moves."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A network in evaluation mode without gradients: without dropout, and of several logits with the finest only.

    A method holds it next to ``network``: checkpoints store it, resuming restores it, and a prediction never reads it.

    Args:
        network: What predicts.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor, **context: Any) -> Tensor:
        """Logits of a batch of patches."""
        logits: Tensor = self.network(image, **context)
        return logits


class EmaTeacher(Teacher):
    r"""The exponential moving average of a network over the steps of its training.

    After update number n (the first is 0), each parameter is
    :math:`\theta' \leftarrow d_n \theta' + (1 - d_n) \theta` with :math:`d_n = \min(decay, n / (n + 1))`: the mean of
    all states at first, and then an average over about the last ``1 / (1 - decay)``. Buffers of floating point, such as
    the statistics of batch normalisation, are averaged alike; others, such as counters, are copied.

    Args:
        network: What is averaged; the teacher begins as a copy of it.
        decay: Largest part that the average keeps, in [0, 1).
    """

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(deepcopy(network))
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._done: int | None = None

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the present state of the network."""
        if self._done is None:
            self._done = int(self.updates)  # once: on a GPU, each look waits for it
        weight = 1 - decay_at(self._done, self.decay)
        mine, theirs = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (self.network, network))
        for name, average in mine.items():
            if torch.is_floating_point(average):
                average.lerp_(theirs[name].detach().to(average), weight)
            else:
                average.copy_(theirs[name])
        self._done += 1
        self.updates.fill_(self._done)


def decay_at(n: int, decay: float) -> float:
    """Part that an average keeps of itself in update number ``n``.

    Example:
        >>> [decay_at(n, 0.99) for n in (0, 1, 3, 1000)]
        [0.0, 0.5, 0.75, 0.99]
    """
    return min(decay, n / (n + 1))
