"""Tiling: how images of any size pass through a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.inference.flips import flipped
from medseg.inference.rows import Rows, Slab, axis_first
from medseg.inference.sliding_window import Network, slabs, sliding_window, windows_of

_SMALL_BLEND = 2**28  # bytes


@dataclass(frozen=True)
class Tiling:
    """How whole images pass through a network.

    Attributes:
        window: Cells of a window on each axis, as the network takes it.
        overlap: Least share of a window that its neighbour covers too.
        batch_size: Windows per call.
        flip_axes: Axes mirrored at test time.
        lateral_axis: The axis across the body, if any.
        swap: Output that stands for each output in a laterally mirrored image.
        mirror_classes: Mirror image of each class, where the last channel of images holds class numbers.
        precision: ``bf16`` runs the network under bfloat16 autocast, ``fp16`` likewise, ``fp32`` does not.
    """

    window: tuple[int, ...]
    overlap: float = 0.5
    batch_size: int = 1
    flip_axes: tuple[int, ...] = ()
    lateral_axis: int | None = None
    swap: tuple[int, ...] | None = None
    precision: str = "fp32"
    mirror_classes: tuple[int, ...] | None = None

    def rows(self, image: Float[Tensor, "c *s"], network: nn.Module, axis: int = 0) -> Rows:
        """Logits of a whole preprocessed image, a few rows at a time; the network is to be in evaluation mode.

        Args:
            image: On the device of the network.
            network: Called without gradients.
            axis: Axis of the image along which rows follow each other; the memory that sums take is ``blend_bytes``.
        """
        run = self.called(network, image.device)
        moved = image.movedim(axis + 1, 1)

        def along(batch: Float[Tensor, "b c *w"]) -> Float[Tensor, "b k *v"]:
            return run(batch.movedim(2, axis + 2)).movedim(axis + 2, 2)

        tiles = self.tiles(network, axis)
        rows = slabs(
            windows_of(moved, tiles["window"], tiles["margin"]), tuple(moved.shape[1:]), along if axis else run, **tiles
        )
        return (Slab(row, logits) for row, logits in rows)

    def row_axis(self, shape: Sequence[int], n_outputs: int) -> int:
        """The axis along which ``rows`` should follow each other: the first, unless sums take too much memory.

        Args:
            shape: Of the preprocessed image.
            n_outputs: Logits, k.
        """
        sizes = [self.blend_bytes(shape, n_outputs, axis) for axis in range(len(shape))]
        return 0 if sizes[0] <= _SMALL_BLEND else sizes.index(min(sizes))

    def blend_bytes(self, shape: Sequence[int], n_outputs: int, axis: int) -> int:
        """Memory of the weighted sums of logits: of as many rows as a window has."""
        rows = min(self.window[axis], shape[axis])
        return 4 * n_outputs * rows * prod(axis_first(shape, axis)[1:])

    def called(self, network: nn.Module, device: torch.device) -> Network:
        """The network as windows pass through it: without gradients, mirrored, in ``precision``."""
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        sides: Any = {"lateral_axis": self.lateral_axis, "swap": self.swap, "mirror_classes": self.mirror_classes}
        mirrored = flipped(network, self.flip_axes, **sides)

        def call(batch: Float[Tensor, "b c *w"]) -> Float[Tensor, "b k *v"]:
            with torch.no_grad(), torch.autocast(device.type, dtype=half, enabled=half is not None):
                return mirrored(batch)

        return call

    @contextmanager
    def running(self, network: nn.Module, device: torch.device) -> Iterator[Network]:
        """The network as windows pass through it: in evaluation mode, without gradients, mirrored, in ``precision``."""
        training = network.training
        network.eval()
        try:
            yield self.called(network, device)
        finally:
            network.train(training)

    def logits(self, image: Float[Tensor, "c *s"], network: nn.Module) -> Float[Tensor, "k *s"]:
        """Logits of a whole preprocessed image in memory; ``medseg.inference.stream`` has larger ones."""
        with self.running(network, image.device) as run:
            return sliding_window(image, run, **self.tiles(network))

    def tiles(self, network: nn.Module, axis: int = 0) -> dict[str, Any]:
        """Arguments of ``slabs`` for a network; windows are without the margin that it gives no logits of.

        Args:
            network: See ``models.network.Network``.
            axis: Of the image, which comes first.
        """
        margin = tuple(getattr(network, "margin", ())) or (0,) * len(self.window)
        window = tuple(w - 2 * m for w, m in zip(self.window, margin, strict=True))
        return {
            "window": axis_first(window, axis),
            "margin": axis_first(margin, axis),
            "overlap": self.overlap,
            "batch_size": self.batch_size,
        }
