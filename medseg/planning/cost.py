"""Memory of a U-Net, counted in outputs of its convolutions, and the outputs that fit into a memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from medseg.errors import InputError


@dataclass(frozen=True)
class UNetCost:
    """Settings that decide how much a U-Net writes to memory; mirrors the settings of ``models.unet.UNet``.

    Attributes:
        base_features: Channels of the first stage; they double with every stage.
        max_features: Their upper bound; None for 512 in two and 320 in three dimensions.
        encoder_blocks: Blocks per stage; the last number holds for all further stages.
        decoder_blocks: Blocks per upsampling, from coarse to fine; the last number holds for all further ones.
        residual: Whether encoder blocks are residual (two convolutions each, after a stem).
        dates: How often the encoder runs on a case: once for each date of a time series, if it sees them one by one.
        inputs: Channels of a time series, of all dates; 0 for single images, whose few channels do not count.
    """

    base_features: int = 32
    max_features: int | None = None
    encoder_blocks: tuple[int, ...] = (2,)
    decoder_blocks: tuple[int, ...] = (2,)
    residual: bool = False
    dates: int = 1
    inputs: int = 0


@dataclass(frozen=True)
class Budget:
    """Convolution outputs that fit into the memory of the accelerator.

    Attributes:
        outputs: Values written by all convolutions for one case, at which ``batch`` cases fit.
        batch: Cases in a batch of the reference.
        must_fit: Cases that must fit at least; the patch shrinks until they do.
        coverage: Fraction of all cells of the dataset that one batch may hold.
    """

    outputs: float
    batch: int
    must_fit: int
    coverage: float

    @classmethod
    def for_memory(cls, ndim: int, memory_gb: float = 8.0, *, residual: bool = False) -> Budget:
        """nnU-Net's measured budgets for this many gigabytes, scaled in proportion between them."""
        if ndim not in (2, 3) or memory_gb <= 0:
            raise InputError(f"plan: expected 2 or 3 axes and memory above 0 GB, got {ndim} axes and {memory_gb} GB")
        batch = {2: 12, 3: 2}[ndim]
        if not residual:
            return cls({2: 85e6, 3: 560e6}[ndim] * memory_gb / 8, batch, must_fit=2, coverage=0.05)
        measured = {2: {8: 135e6, 24: 380e6, 40: 560e6}, 3: {8: 680e6, 24: 2.1e9, 40: 3.6e9}}[ndim]
        nearest = max((gb for gb in measured if gb <= memory_gb), default=8)
        return cls(measured[nearest] * memory_gb / nearest, batch, must_fit=batch, coverage=1.0)


def estimated_gb(ndim: int, outputs: float, batch_size: int, *, residual: bool = False) -> float:
    """Gigabytes that a training step needs, in proportion to nnU-Net's measured budgets.

    Args:
        ndim: Axes of the data.
        outputs: Result of ``convolution_outputs`` for one case.
        batch_size: Cases of a step.
        residual: Whether encoder blocks are residual.

    Example:
        >>> estimated_gb(3, 560e6, 2)
        8.0
    """
    reference = Budget.for_memory(ndim, 8.0, residual=residual)
    return 8.0 * outputs * batch_size / (reference.outputs * reference.batch)


def _cells_of_stages(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """Cells of each stage, fine to coarse."""
    size, cells = tuple(patch), []
    for stride in strides:
        size = tuple(n // f for n, f in zip(size, stride, strict=True))
        cells.append(prod(size))
    return cells


def convolution_outputs(
    patch: Sequence[int], strides: Sequence[Sequence[int]], out_channels: int, cost: UNetCost
) -> int:
    """Values that all convolutions of the U-Net write for one case: what its activations cost.

    The sum over convolutions, also transposed and skip ones, of channels times cells; one output head.

    Args:
        patch: Cells of the network's input, multiples of the product of the strides.
        strides: Stride at the entrance of each stage, fine to coarse.
        out_channels: Outputs of the network, k.
        cost: The kind of U-Net.
    """
    most = cost.max_features or (320 if len(patch) == 3 else 512)
    features = [min(cost.base_features * 2**i, most) for i in range(len(strides))]
    cells = _cells_of_stages(patch, strides)
    total = (out_channels + cost.inputs) * cells[0]
    if cost.residual:
        total += cost.dates * features[0] * cells[0]
    for i in range(len(features)):
        blocks = cost.encoder_blocks[min(i, len(cost.encoder_blocks) - 1)]
        widened = i > 0 and features[i] != features[i - 1]
        convolutions = 2 * blocks + widened if cost.residual else blocks
        total += cost.dates * features[i] * cells[i] * convolutions
    for step, i in enumerate(reversed(range(len(features) - 1))):
        blocks = cost.decoder_blocks[min(step, len(cost.decoder_blocks) - 1)]
        total += features[i] * cells[i] * (1 + blocks)
    return total
