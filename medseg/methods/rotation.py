"""Rotation: which way a patch was turned, predicted from the coarsest feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import InputError
from medseg.methods.pretraining import Pretraining, Reconstruction, encoder_of
from medseg.sample import Batch


class Rotation(Pretraining):
    """Predicts the turn of a patch: of an image 4 (by 0, 90, 180, 270 degrees), of a volume 10.

    The ten are no turn, and one, two or three quarter turns about each axis. Turns by 90 degrees exchange axes,
    so the middle of the patch is cut to the same number of cells on each of them. Augmentation must not turn
    patches itself, as the answer would be arbitrary: drop ``turns`` and large rotations from the transform.
    Scenes from above have little that tells a turn, but shadows; volumes of a body have much.

    Args:
        network: An encoder-decoder: has ``encoder``.
        patch: Cells of a patch on each axis.
        shared: What every ``Pretraining`` takes.

    Raises:
        InputError: A network without an encoder.

    References:
        Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations, 2018; Taleb et al.,
        3D Self-Supervised Methods for Medical Imaging, 2020 (the ten turns of volumes).
    """

    def __init__(self, network: nn.Module, *, patch: Sequence[int], **shared: Any) -> None:
        super().__init__(network, patch=patch, **shared)
        encoder = encoder_of(network, "rotation")
        divisor = max(encoder.divisor)
        self.edge = min(self.patch) // divisor * divisor
        if self.edge == 0 or (encoder.fixed_shape and set(encoder.fixed_shape) != {self.edge}):
            raise InputError(
                f"method=rotation: the encoder takes {encoder.fixed_shape or f'multiples of {divisor}'}, and the patch "
                f"{list(patch)} has no such square or cube; set plan.patch to one"
            )
        self.turns = turns(len(self.patch))
        self.head = nn.Linear(encoder.features[-1].channels, len(self.turns))
        network.get_submodule("decoder").requires_grad_(False)

    def losses(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """Cross-entropy of the turn."""
        starts = [(s - self.edge) // 2 for s in batch.image.shape[2:]]
        cut: Any = (..., *(slice(a, a + self.edge) for a in starts))
        middle = batch.image[cut]
        chosen = drawn(batch, len(self.turns)).to(middle.device)
        turned = torch.stack([turn(image, *self.turns[int(i)]) for image, i in zip(middle, chosen, strict=True)])
        encoder = encoder_of(self.network, "rotation")
        feature, given = encoder.features[-1], encoder(turned)[-1]
        pooled = given[:, feature.prefix :].mean(dim=1) if feature.tokens else given.flatten(2).mean(dim=2)
        loss = functional.cross_entropy(self.head(pooled).float(), chosen)
        return loss, Reconstruction(middle[0], turned[0], None)


def turns(ndim: int) -> list[tuple[int, tuple[int, int]]]:
    """(quarter turns, plane) of each answer; planes count spatial axes.

    Example:
        >>> turns(2), len(turns(3))
        ([(0, (0, 1)), (1, (0, 1)), (2, (0, 1)), (3, (0, 1))], 10)
    """
    planes = [(0, 1)] if ndim == 2 else [(0, 1), (0, 2), (1, 2)]
    return [(0, planes[0]), *((k, plane) for plane in planes for k in (1, 2, 3))]


def turn(image: Float[Tensor, "c *s"], quarters: int, plane: tuple[int, int]) -> Float[Tensor, "c *s"]:
    """The image turned in a plane of spatial axes."""
    return torch.rot90(image, quarters, (plane[0] + 1, plane[1] + 1))


def drawn(batch: Batch, n: int) -> Tensor:
    """An answer for each sample, drawn by its key."""
    words = np.ascontiguousarray(batch.key.numpy(), dtype=np.int64).view(np.uint32)
    rngs = (np.random.default_rng(np.random.SeedSequence(row, spawn_key=(1001,))) for row in words)
    return torch.tensor([int(rng.integers(n)) for rng in rngs])
