"""Tokens of ChannelViT: one for every channel of every place; which channels are there, and which are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import torch
from jaxtyping import Bool, Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from medseg.models.layers import CONV

_STD = 0.02
"""Of what starts random, as in the original."""


class Tokens(nn.Module):
    """The parameters of the transformer, under the authors' names, and how tokens are made.

    Args:
        channels: Number of channels of the data.
        size: Cells of a token's patch on each axis.
        grid: Places on each axis.
        width: Numbers in a token.
        num_heads: Attention heads.
        mlp_ratio: Channels of the multilayer perceptrons, for one of ``width``.
        rates: Stochastic depth of each block.
        waves: Wavelength of each channel in nanometres; None to learn an embedding for each.
    """

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        grid: Sequence[int],
        width: int,
        *,
        num_heads: int,
        mlp_ratio: float,
        rates: Sequence[float],
        waves: Sequence[float] | None,
    ) -> None:
        super().__init__()
        self.patch_embed = Patches(channels, size, width, waves)
        self.cls_token = nn.Parameter(_STD * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(_STD * torch.randn(1, 1 + prod(grid), width))
        self.blocks = nn.ModuleList(
            Block(width, num_heads, mlp_ratio, qkv_bias=True, drop_path=rate, norm_layer=_norm) for rate in rates
        )
        self.norm = _norm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)

    def embed(self, image: Float[Tensor, "b m *s"], channels: Int[Tensor, " m"]) -> Float[Tensor, "b l d"]:
        """The class token, then the places of each chosen channel in row-major order, channel after channel."""
        tokens = self.patch_embed(image, channels) + self.pos_embed[:, None, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        return torch.cat((first, tokens.flatten(1, 2).to(first.dtype)), dim=1)

    def mask(self, present: Bool[Tensor, "b m"]) -> Bool[Tensor, "b 1 1 l"]:
        """Which tokens may be attended to: the class token, and those of channels that are there."""
        places = self.pos_embed.shape[1] - 1
        tokens = torch.cat((torch.ones_like(present[:, :1]), present.repeat_interleave(places, dim=1)), dim=1)
        return tokens[:, None, None]


class Patches(nn.Module):
    """Tokens of the patches of single channels: one kernel for all, and an embedding of each channel.

    Arguments as of ``Tokens``.
    """

    def __init__(self, channels: int, size: Sequence[int], width: int, waves: Sequence[float] | None) -> None:
        super().__init__()
        self.proj = CONV[len(size)](1, width, tuple(size), tuple(size))
        self.channel_embed: Tensor
        if waves is None:
            self.channel_embed = nn.Parameter(_STD * torch.randn(1, width, channels))
        else:
            sines = encode(torch.tensor(waves), width).T[None]
            self.register_buffer("channel_embed", sines, persistent=False)

    def forward(self, image: Float[Tensor, "b m *s"], channels: Int[Tensor, " m"]) -> Float[Tensor, "b m n d"]:
        """Tokens of the places of each channel."""
        patches = self.proj(image.flatten(0, 1).unsqueeze(1)).flatten(2).transpose(1, 2)
        return patches.unflatten(0, image.shape[:2]) + self.channel_embed[0, :, channels].T[:, None]


def present_in(image: Float[Tensor, "b c *s"]) -> Bool[Tensor, "b c"]:
    """Which channels are there: those that are not zero everywhere; all of a sample in which none is.

    Example:
        >>> present_in(torch.tensor([[[0.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]])).tolist()
        [[False, True], [True, True]]
    """
    present = (image != 0).flatten(2).any(2)
    return present | ~present.any(1, keepdim=True)


def sample_channels(present: Bool[Tensor, "b c"]) -> Int[Tensor, " m"]:
    """Channels for one step: as many as a uniform draw from 1 to c says, and more until each sample has one.

    Args:
        present: Channels that are there.

    Returns:
        Their places, in rising order.
    """
    order = torch.randperm(present.shape[1])
    count = int(torch.randint(1, present.shape[1] + 1, ()))
    if not present.is_meta:  # there, nothing is known of what is there
        ranked = present.cpu()[:, order]
        first = torch.where(ranked.any(1), ranked.int().argmax(1), 0)
        count = max(count, int(first.max()) + 1)
    return order[:count].sort().values


def encode(waves: Float[Tensor, " c"], width: int) -> Float[Tensor, "c d"]:
    r"""Sines, then cosines, of wavelengths in nanometres at rates :math:`10000^{-i / (d / 2)}`, a row for each.

    Example:
        >>> encode(torch.tensor([0.0, torch.pi / 2]), 2)
        tensor([[ 0.0000e+00,  1.0000e+00],
                [ 1.0000e+00, -4.3711e-08]])
    """
    half = ceil(width / 2)
    angles = torch.outer(waves.float(), 10000 ** -(torch.arange(half) / half))
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :width]


def _norm(width: int, **settings: object) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6, **settings)  # type: ignore[arg-type]
