"""Mae: masked autoencoding; most of a patch is hidden, and reconstructed from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medseg.methods.masking import (
    block_sizes,
    blocks_of,
    check_mask_ratio,
    from_blocks,
    hidden_blocks,
    spread,
    standardised,
)
from medseg.methods.outputs import finest
from medseg.methods.pretraining import Pretraining, Reconstruction, mean_where
from medseg.sample import Batch


class Mae(Pretraining):
    """Masked autoencoder.

    With a plain transformer (``network.encoder`` has ``embed`` and ``attend``) it is that of He et al.: the
    encoder sees the tokens of the visible blocks alone, a light transformer reconstructs the cells of the
    hidden ones from them, and is thrown away. Blocks are then the encoder's own patches.

    Any other network is its own autoencoder, as of Wald et al.: the hidden blocks of the image are zero (the
    mean of a standardised image), the network's logits are the reconstructed channels, and encoder and decoder are
    both kept; only the last layer is not.

    The loss is the mean squared error over hidden, valid cells.

    Args:
        network: Gives as many logits as the image has channels.
        patch: Cells of a patch on each axis.
        mask_ratio: Fraction of the blocks that are hidden.
        mask_patch_size: Cells of a block on each axis, or one number for all; of a plain transformer it is its patch.
        norm_pix_loss: Reconstruct every block standardised by its own mean and deviation.
        decoder_embed_dim: Width of the light transformer.
        decoder_depth: Layers of the light transformer.
        shared: What every ``Pretraining`` takes.

    Raises:
        InputError: Blocks that do not divide the patch, or a ratio outside (0, 1).

    References:
        He et al., Masked Autoencoders Are Scalable Vision Learners, 2022. Wald et al., Revisiting MAE
        pre-training for 3D medical image segmentation, 2024.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch: Sequence[int],
        mask_ratio: float = 0.75,
        mask_patch_size: int | Sequence[int] = 16,
        norm_pix_loss: bool = False,
        decoder_embed_dim: int = 192,
        decoder_depth: int = 4,
        **shared: Any,
    ) -> None:
        super().__init__(network, patch=patch, **shared)
        check_mask_ratio(mask_ratio, such_as=0.75)
        encoder: Any = getattr(network, "encoder", None)
        self.plain = hasattr(encoder, "embed") and hasattr(encoder, "attend")
        sizes = encoder.features[0].stride if self.plain else block_sizes(mask_patch_size, patch)
        self.mask_ratio, self.norm_pix_loss = mask_ratio, norm_pix_loss
        self.grid = blocks_of(patch, sizes)
        if self.plain:
            channels = len(encoder.channels)
            cells = prod(p // g for p, g in zip(patch, self.grid, strict=True)) * channels
            tokens = prod(self.grid)
            self.guesser = MaeDecoder(
                encoder.features[-1].channels, tokens, cells, width=decoder_embed_dim, depth=decoder_depth
            )
            network.get_submodule("decoder").requires_grad_(False)  # it takes no part

    def losses(self, batch: Batch) -> tuple[Tensor, Reconstruction]:
        """Squared error of the hidden cells."""
        blocks = hidden_blocks(batch.key, self.grid, self.mask_ratio).to(batch.image.device)
        hidden = spread(blocks, self.patch)
        target = standardised(batch.image, self.grid) if self.norm_pix_loss else batch.image
        masked = batch.image.masked_fill(hidden[:, None], 0)
        pred = self._from_tokens(batch.image, blocks) if self.plain else finest(self.network(masked))
        loss = mean_where((pred.float() - target) ** 2, hidden & batch.valid)
        return loss, Reconstruction(target[0], masked[0], pred[0].detach())

    def _from_tokens(self, image: Float[Tensor, "b c *s"], blocks: Bool[Tensor, "b *g"]) -> Float[Tensor, "b c *s"]:
        encoder: Any = self.network.encoder
        hidden = blocks.flatten(1)
        order = hidden.int().argsort(dim=1, stable=True)  # visible blocks first
        visible = order[:, : int((~hidden[0]).sum())]
        tokens = encoder.embed(image)
        tokens = encoder.attend(tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[-1])))
        rows = self.guesser(tokens[:, -visible.shape[1] :], visible)
        return from_blocks(rows, image.shape[1], image.shape[2:], self.grid)


class MaeDecoder(nn.Module):
    """A light transformer from the visible tokens to the cells of every block.

    Args:
        features: Width of the tokens that it takes.
        tokens: Number of blocks, visible and hidden.
        cells: Numbers of each block.
        width: Its own width.
        depth: Its layers.
    """

    def __init__(self, features: int, tokens: int, cells: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Linear(features, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, max(width // 32, 1), 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, cells))

    def forward(self, visible: Float[Tensor, "b v d"], at: Tensor) -> Float[Tensor, "b n p"]:
        """Cells of every block, in the order of the blocks; ``at`` ``[b, v]`` says which ones are visible."""
        entered = self.enter(visible)
        tokens = self.mask.to(entered.dtype).expand(len(entered), len(self.place), -1)
        tokens = tokens.scatter(1, at[..., None].expand(-1, -1, entered.shape[-1]), entered)
        return self.leave(self.layers(tokens + self.place))
