"""Tiling: how images of any size pass through a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.inference.flips import flipped
from medseg.inference.sliding_window import Network, sliding_window


@dataclass(frozen=True)
class Tiling:
    """How whole images pass through a network.

    Attributes:
        window: Cells of a window on each axis.
        overlap: Least share of a window that its neighbour covers too.
        batch_size: Windows per call.
        flip_axes: Axes mirrored at test time.
        lateral_axis: The axis across the body, if any.
        swap: Output that stands for each output in a laterally mirrored image.
        precision: ``bf16`` runs the network under bfloat16 autocast, ``fp16`` likewise, ``fp32`` does not.
    """

    window: tuple[int, ...]
    overlap: float = 0.5
    batch_size: int = 1
    flip_axes: tuple[int, ...] = ()
    lateral_axis: int | None = None
    swap: tuple[int, ...] | None = None
    precision: str = "fp32"

    @contextmanager
    def running(self, network: nn.Module, device: torch.device) -> Iterator[Network]:
        """The network as windows pass through it: in evaluation mode, without gradients, mirrored, in ``precision``."""
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        training = network.training
        network.eval()
        try:
            with torch.no_grad(), torch.autocast(device.type, dtype=half, enabled=half is not None):
                yield flipped(network, self.flip_axes, lateral_axis=self.lateral_axis, swap=self.swap)
        finally:
            network.train(training)

    def logits(self, image: Float[Tensor, "c *s"], network: nn.Module) -> Float[Tensor, "k *s"]:
        """Logits of a whole preprocessed image in memory; ``medseg.inference.stream`` has larger ones."""
        with self.running(network, image.device) as run:
            return sliding_window(image, run, window=self.window, overlap=self.overlap, batch_size=self.batch_size)
