"""Pretraining: what every way of learning without labels shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.methods.method import Method, gathered
from medseg.methods.streams import patches
from medseg.sample import Batch

_PATCHES = 4  # of each validation case


@dataclass(frozen=True)
class Reconstruction:
    """One patch, what the network got of it, and what it made of that; for a picture.

    Attributes:
        image: ``[c, *s]`` before anything was hidden.
        masked: What the network got.
        pred: What it reconstructed; None for a method that reconstructs nothing.
    """

    image: Tensor
    masked: Tensor
    pred: Tensor | None


class Pretraining(Method, ABC):
    """Trains on images alone; the best checkpoint is the one of the least ``val/loss`` on held-out cases.

    Labels are never read. What is random about a sample is a function of its key, as in the transforms.
    Validation takes the same patches of each case every time, with the same masks.

    Attributes:
        reconstruction: The first validation patch of the last validation, for pictures.

    Args:
        network: What is trained.
        patch: Cells of a patch on each axis.
        shared: What every ``Method`` takes.

    Raises:
        InputError: A network with a margin.
    """

    monitor = ("val/loss", "min")
    job_type = "pretrain"
    unlabelled = "used"

    def __init__(self, network: nn.Module, *, patch: Sequence[int], **shared: Any) -> None:
        super().__init__(network, **shared)
        if any(getattr(network, "margin", ())):
            raise InputError(
                "method: pretraining reconstructs whole patches, and the network sees more than it gives features of "
                "(model.encoder.context); pretrain the encoder of one branch, without context"
            )
        self.patch = tuple(patch)
        self.reconstruction: Reconstruction | None = None
        self._held_out: dict[str, list[float]] = {}

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """The loss of a batch, and the reconstruction of the first sample."""

    def training_step(self, batch: Batch | Mapping[str, Batch], batch_idx: int) -> Tensor:
        """Loss of one batch of augmented patches; of several streams, of all of their patches together."""
        batch = patches(batch)
        loss, _ = self.losses(batch)
        self.log_losses({"loss": loss}, len(batch.image))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the last round."""
        super().on_validation_epoch_start()
        self._held_out, self.reconstruction = {}, None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss on patches along the diagonal of one whole case."""
        loss, reconstruction = self.losses(diagonal(batch, self.patch, index=batch_idx))
        self._held_out.setdefault(batch.cases[0], []).append(float(loss))
        self.reconstruction = self.reconstruction or reconstruction

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, the mean over cases (of a large one, over its tiles)."""
        super().on_validation_epoch_end()
        losses = [loss for of_case in gathered(self._held_out).values() for loss in of_case]
        self.log("val/loss", sum(losses) / len(losses), prog_bar=True)


def _cut(shape: Sequence[int], patch: Sequence[int], number: int) -> tuple[EllipsisType | slice, ...]:
    """The cells of one of the patches along the diagonal of a case."""
    room = [s - p for s, p in zip(shape, patch, strict=True)]
    start = [r * (number + 1) // (_PATCHES + 1) for r in room]
    return (..., *(slice(a, a + p) for a, p in zip(start, patch, strict=True)))


def diagonal(batch: Batch, patch: Sequence[int], *, index: int) -> Batch:
    """Patches of one whole case at equal distances along its diagonal, with keys of their own.

    Cases smaller than the patch are padded with invalid cells.

    Args:
        batch: One case.
        patch: Cells on each axis.
        index: Of the case; enters the keys, so that masks are the same at every validation.
    """
    lacking = [max(p - s, 0) for p, s in zip(patch, batch.image.shape[2:], strict=True)]
    padding = [n for lack in reversed(lacking) for n in (0, lack)]
    image, label = functional.pad(batch.image, padding), functional.pad(batch.label, padding)
    valid = functional.pad(batch.valid, padding, value=False)
    cuts = [_cut(image.shape[2:], patch, i) for i in range(_PATCHES)]
    return Batch(
        image=torch.cat([image[cut] for cut in cuts]),
        label=torch.cat([label[cut] for cut in cuts]),
        valid=torch.cat([valid[cut] for cut in cuts]),
        present=batch.present.expand(_PATCHES, *batch.present.shape[1:]),
        key=torch.tensor([[-1, index, i] for i in range(_PATCHES)]),
        cases=batch.cases * _PATCHES,
    )


def mean_where(error: Tensor, counted: Tensor) -> Tensor:
    """Mean of ``error`` ``[b, c, *s]`` over the cells that count ``[b, *s]`` and all channels; 0 where none does.

    In float32, whatever came.
    """
    weight = counted[:, None].expand_as(error)
    return torch.where(weight, error.float(), 0.0).sum() / weight.sum().clamp(min=1)


def encoder_of(network: nn.Module, method: str) -> Any:
    """The encoder of an encoder-decoder.

    Raises:
        InputError: The network has none with declared features.
    """
    encoder = getattr(network, "encoder", None)
    if not hasattr(encoder, "features"):
        raise InputError(
            f"method={method} needs model=encoder_decoder, whose encoder declares its features; got "
            f"{type(network).__name__}; choose that, or method=mae, which takes any network"
        )
    return encoder
