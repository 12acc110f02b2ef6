"""SimMim: hidden blocks are guessed by a linear map of the coarsest feature."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.methods.masking import blocks_of, from_blocks, hidden_blocks, spread
from medseg.methods.pretraining import Pretraining, Seen, mean_where
from medseg.sample import Batch


class SimMim(Pretraining):
    """Masked image modelling with any encoder, a pyramid or a transformer; its decoder takes no part.

    Hidden blocks are replaced by a learned value of each channel. (The paper puts a learned token after the
    patch embedding, which a convolutional encoder does not have.) One linear map of the coarsest feature
    guesses the cells that it covers. The loss is the mean absolute error over hidden, valid cells.

    Args:
        network: An encoder-decoder: has ``encoder``, with ``features`` on grids or as tokens.
        patch: Cells of a patch on each axis.
        share: Of the blocks that are hidden.
        block: Cells of a block on each axis, or one number for all; null takes the coarsest stride.
        shared: What every ``Pretraining`` takes.

    Raises:
        InputError: A network without an encoder, blocks that do not divide the patch, or a share that is none.

    References:
        Xie et al., SimMIM: A Simple Framework for Masked Image Modeling, 2022.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch: Sequence[int],
        share: float = 0.6,
        block: int | Sequence[int] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(network, patch=patch, **shared)
        encoder = encoder_of(network, "simmim")
        if not 0 < share < 1:
            raise InputError(f"method.share={share}: expected a share between 0 and 1, such as 0.6")
        stride = encoder.features[-1].stride
        sizes = stride if block is None else [block] * len(patch) if isinstance(block, int) else block
        self.share = share
        self.grid = blocks_of(patch, sizes)
        self.coarse = tuple(p // s for p, s in zip(patch, stride, strict=True))
        channels = len(encoder.channels)
        self.mask = nn.Parameter(torch.zeros(channels))
        self.head = nn.Linear(encoder.features[-1].channels, channels * prod(stride))
        network.get_submodule("decoder").requires_grad_(False)

    def losses(self, batch: Batch) -> tuple[Tensor, Seen]:
        """Absolute error of the hidden cells."""
        image, encoder = batch.image, encoder_of(self.network, "simmim")
        hidden = spread(hidden_blocks(batch.key, self.grid, self.share).to(image.device), self.patch)
        filling = self.mask.to(image.dtype).view(1, -1, *[1] * len(self.patch))
        shown = torch.where(hidden[:, None], filling, image)
        feature, given = encoder.features[-1], encoder(shown)[-1]
        tokens = given[:, feature.prefix :] if feature.tokens else given.flatten(2).transpose(1, 2)
        guessed = from_blocks(self.head(tokens), image.shape[1], self.patch, self.coarse)
        loss = mean_where((guessed.float() - image).abs(), hidden & batch.valid)
        return loss, Seen(image[0], shown[0].detach(), guessed[0].detach())


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
