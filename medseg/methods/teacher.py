"""Teachers: networks that a method learns from, and that no optimiser moves."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.sample import Batch


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


class TrainedTeacher(Teacher):
    """A network of another training, which sees the patches of this one as it was trained to see them.

    Its channels are picked and normalised as in its own training, patches are resampled to its cells and padded to a
    shape that it takes, and probabilities come back on the cells and in the classes of this training.

    Args:
        network: The trained network.
        channels: Index of each of its channels among those of the batch.
        rules: For each of its channels: factor, offset, least and largest value, which turn an image that is normalised
            for this training into one that is normalised for its own.
        shape: Cells of a patch of this training on its grid.
        padded: A shape that the network takes, at least ``shape``.
        outputs: ``[k, j]``: which of its outputs j are part of each output k of this training.
        regions: Whether outputs are regions, not classes.
    """

    outputs: Tensor
    rules: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: Sequence[int],
        rules: Sequence[tuple[float, float, float, float]],
        shape: Sequence[int],
        padded: Sequence[int],
        outputs: Sequence[Sequence[float]],
        regions: bool,
    ) -> None:
        super().__init__(network)
        self.channels, self.shape, self.padded, self.regions = list(channels), tuple(shape), tuple(padded), regions
        self.register_buffer("rules", torch.tensor(rules, dtype=torch.float32), persistent=False)
        self.register_buffer("outputs", torch.tensor(outputs, dtype=torch.float32), persistent=False)

    @torch.no_grad()
    def probabilities(self, batch: Batch, temperature: float = 1.0) -> Float[Tensor, "b k *s"]:
        """Probabilities of the classes, or regions, of this training for patches of it.

        Args:
            batch: The patches.
            temperature: What its logits are divided by.
        """
        space = batch.image.shape[2:]
        logits = self(self._seen(batch)).float()[(..., *(slice(0, n) for n in self.shape))] / temperature
        own = logits.sigmoid() if self.regions else logits.softmax(1)
        return torch.einsum("kj,bj...->bk...", self.outputs, _resampled(own, space))

    def _seen(self, batch: Batch) -> Float[Tensor, "b m *t"]:
        """What the network gets: 0 for cells without data and for missing channels, as in its own training."""
        ones = [1] * (batch.valid.ndim - 1)
        factor, offset, least, most = (row.view(-1, *ones) for row in self.rules.T)
        data = batch.valid[:, None] & batch.present[:, self.channels].unflatten(1, (-1, *ones))
        picked = (batch.image[:, self.channels] * factor + offset).clamp(least, most).masked_fill(~data, 0)
        seen = _resampled(picked, self.shape)
        padding = [n for now, wanted in zip(self.shape, self.padded, strict=True) for n in (wanted - now, 0)]
        return functional.pad(seen, padding[::-1])


def _resampled(values: Float[Tensor, "b c *s"], shape: Sequence[int]) -> Float[Tensor, "b c *t"]:
    """Linear interpolation over the same extent; the values themselves where the shape is theirs."""
    if tuple(values.shape[2:]) == tuple(shape):
        return values
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return functional.interpolate(values, size=list(shape), mode=mode, align_corners=False)
