"""Mae: masked autoencoding; most of a patch is hidden, and guessed from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.methods.masking import blocks_of, from_blocks, hidden_blocks, spread, standardised
from medseg.methods.pretraining import Pretraining, Seen, mean_where
from medseg.sample import Batch


class Mae(Pretraining):
    """Masked autoencoder.

    With a plain transformer (``network.encoder`` has ``embed`` and ``attend``) it is that of He et al.: the
    encoder sees the tokens of the visible blocks alone, a light transformer guesses the cells of the hidden
    ones from them, and is thrown away. Blocks are then the encoder's own patches.

    Any other network is its own autoencoder, as of Wald et al.: the hidden blocks of the image are zero (the
    mean of a standardised image), the network's logits are the guessed channels, and encoder and decoder are
    both kept; only the last layer is not.

    The loss is the mean squared error over hidden, valid cells.

    Args:
        network: Gives as many logits as the image has channels.
        patch: Cells of a patch on each axis.
        share: Of the blocks that are hidden.
        block: Cells of a block on each axis, or one number for all; of a plain transformer it is its patch.
        normalise: Guess every block standardised by its own mean and deviation.
        width: Of the light transformer.
        depth: Of the light transformer, in layers.
        shared: What every ``Pretraining`` takes.

    Raises:
        InputError: Blocks that do not divide the patch, or a share that is none.

    References:
        He et al., Masked Autoencoders Are Scalable Vision Learners, 2022. Wald et al., Revisiting MAE
        pre-training for 3D medical image segmentation, 2024.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch: Sequence[int],
        share: float = 0.75,
        block: int | Sequence[int] = 16,
        normalise: bool = False,
        width: int = 192,
        depth: int = 4,
        **shared: Any,
    ) -> None:
        super().__init__(network, patch=patch, **shared)
        if not 0 < share < 1:
            raise InputError(f"method.share={share}: expected a share between 0 and 1, such as 0.75")
        encoder: Any = getattr(network, "encoder", None)
        self.plain = hasattr(encoder, "embed") and hasattr(encoder, "attend")
        sizes = encoder.features[0].stride if self.plain else [block] * len(patch) if isinstance(block, int) else block
        self.share, self.normalise = share, normalise
        self.grid = blocks_of(patch, sizes)
        if self.plain:
            channels = len(encoder.channels)
            cells = prod(p // g for p, g in zip(patch, self.grid, strict=True)) * channels
            tokens = prod(self.grid)
            self.guesser = Guesser(encoder.features[-1].channels, tokens, cells, width=width, depth=depth)
            network.get_submodule("decoder").requires_grad_(False)  # it takes no part

    def losses(self, batch: Batch) -> tuple[Tensor, Seen]:
        """Squared error of the hidden cells."""
        blocks = hidden_blocks(batch.key, self.grid, self.share).to(batch.image.device)
        hidden = spread(blocks, self.patch)
        target = standardised(batch.image, self.grid) if self.normalise else batch.image
        shown = batch.image.masked_fill(hidden[:, None], 0)
        guessed = self._from_tokens(batch.image, blocks) if self.plain else first(self.network(shown))
        loss = mean_where((guessed.float() - target) ** 2, hidden & batch.valid)
        return loss, Seen(target[0], shown[0], guessed[0].detach())

    def _from_tokens(self, image: Float[Tensor, "b c *s"], blocks: Bool[Tensor, "b *g"]) -> Float[Tensor, "b c *s"]:
        encoder: Any = self.network.encoder
        hidden = blocks.flatten(1)
        order = hidden.int().argsort(dim=1, stable=True)  # visible blocks first
        visible = order[:, : int((~hidden[0]).sum())]
        tokens = encoder.embed(image)
        tokens = encoder.attend(tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[-1])))
        rows = self.guesser(tokens[:, -visible.shape[1] :], visible)
        return from_blocks(rows, image.shape[1], image.shape[2:], self.grid)


class Guesser(nn.Module):
    """A light transformer from the visible tokens to the cells of every block.

    Args:
        features: Width of the tokens that come.
        tokens: Number of blocks, visible and hidden.
        cells: Numbers to guess for each block.
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
        came = self.enter(visible)
        tokens = self.mask.to(came.dtype).expand(len(came), len(self.place), -1)
        tokens = tokens.scatter(1, at[..., None].expand(-1, -1, came.shape[-1]), came)
        return self.leave(self.layers(tokens + self.place))


def first(logits: Tensor | list[Tensor]) -> Tensor:
    """The finest logits of a network that gives several."""
    return logits[0] if isinstance(logits, list) else logits
