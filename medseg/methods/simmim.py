"""SimMim: hidden blocks are reconstructed by a linear map of the coarsest feature."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from medseg.methods.masking import block_sizes, blocks_of, check_mask_ratio, from_blocks, hidden_blocks, spread
from medseg.methods.pretraining import Pretraining, Reconstruction, encoder_of, mean_where
from medseg.sample import Batch


class SimMim(Pretraining):
    """Masked image modelling with any encoder, a pyramid or a transformer; its decoder takes no part.

    Hidden blocks are replaced by a learned value of each channel. (The paper puts a learned token after the
    patch embedding, which a convolutional encoder does not have.) One linear map of the coarsest feature
    reconstructs the cells that it covers. The loss is the mean absolute error over hidden, valid cells.

    Args:
        network: An encoder-decoder: has ``encoder``, with ``features`` on grids or as tokens.
        patch: Cells of a patch on each axis.
        mask_ratio: Fraction of the blocks that are hidden.
        mask_patch_size: Cells of a block on each axis, or one number for all; null takes the coarsest stride.
        shared: What every ``Pretraining`` takes.

    Raises:
        InputError: A network without an encoder, blocks that do not divide the patch, or a ratio outside (0, 1).

    References:
        Xie et al., SimMIM: A Simple Framework for Masked Image Modeling, 2022.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch: Sequence[int],
        mask_ratio: float = 0.6,
        mask_patch_size: int | Sequence[int] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(network, patch=patch, **shared)
        encoder = encoder_of(network, "simmim")
        check_mask_ratio(mask_ratio, such_as=0.6)
        stride = encoder.features[-1].stride
        sizes = stride if mask_patch_size is None else block_sizes(mask_patch_size, patch)
        self.mask_ratio = mask_ratio
        self.grid = blocks_of(patch, sizes)
        self.coarse = tuple(p // s for p, s in zip(patch, stride, strict=True))
        channels = len(encoder.channels)
        self.mask = nn.Parameter(torch.zeros(channels))
        self.head = nn.Linear(encoder.features[-1].channels, channels * prod(stride))
        network.get_submodule("decoder").requires_grad_(False)

    def losses(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """Absolute error of the hidden cells."""
        image, encoder = batch.image, encoder_of(self.network, "simmim")
        hidden = spread(hidden_blocks(batch.key, self.grid, self.mask_ratio).to(image.device), self.patch)
        filling = self.mask.to(image.dtype).view(1, -1, *[1] * len(self.patch))
        masked = torch.where(hidden[:, None], filling, image)
        feature, given = encoder.features[-1], encoder(masked)[-1]
        tokens = given[:, feature.prefix :] if feature.tokens else given.flatten(2).transpose(1, 2)
        pred = from_blocks(self.head(tokens), image.shape[1], self.patch, self.coarse)
        loss = mean_where((pred.float() - image).abs(), hidden & batch.valid)
        return loss, Reconstruction(image[0], masked[0].detach(), pred[0].detach())
