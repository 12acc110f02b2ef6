"""ClayNet: the parameters of Clay's encoder, under the names of the authors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medseg.models.encoders.vit import Size

PATCH = 8
WAVES = 128
"""Numbers of an encoded wavelength, and learned tokens next to them."""


class ClayNet(nn.Module):
    """The parameters, under the names of the authors.

    Args:
        size: With only the blocks that features depend on.
        ratio: Times that the layer between is wider than a token.
    """

    def __init__(self, size: Size, ratio: int) -> None:
        super().__init__()
        width = size.embed_dim
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.patch_embedding = _Kernels(width)
        self.transformer = nn.ModuleDict({
            "norm": nn.LayerNorm(width),
            "layers": nn.ModuleList(_Layer(width, size.num_heads, ratio) for _ in range(size.depth)),
        })  # fmt: skip


class _Kernels(nn.Module):
    """Kernels and offset of the patches from encoded wavelengths."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fclayer = nn.ModuleDict({"l1": nn.Linear(WAVES, WAVES), "l2": nn.Linear(WAVES, WAVES)})
        self.weight_generator = _Generator(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, waves: Float[Tensor, "c d"]) -> tuple[Float[Tensor, "o c p p"], Float[Tensor, " o"]]:
        """A kernel for each channel, and the offset of all."""
        mixed = functional.gelu(self.fclayer["l2"](functional.gelu(self.fclayer["l1"](waves))))
        weight, bias = self.weight_generator(waves + mixed)
        return 0.02 * weight.unflatten(1, (-1, PATCH, PATCH)).transpose(0, 1), bias


class _Generator(nn.Module):
    """Attention of wavelengths to each other and to learned tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WAVES, 4, activation="gelu", dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight, self.fc_bias = nn.Linear(WAVES, PATCH**2 * width), nn.Linear(WAVES, width)
        self.weight_tokens = nn.Parameter(0.02 * torch.randn(WAVES, WAVES))
        self.bias_token = nn.Parameter(0.02 * torch.randn(1, WAVES))

    def forward(self, waves: Float[Tensor, "c d"]) -> tuple[Float[Tensor, "c k"], Float[Tensor, " o"]]:
        """Kernels of each channel, flattened, and the offset."""
        mixed = self.encoder(torch.cat((self.weight_tokens, waves, self.bias_token)))
        return self.fc_weight(mixed[WAVES:-1] + waves), self.fc_bias(mixed[-1])


class _Layer(nn.ModuleList):
    """A block: attention, then a layer of each token, each of them added."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
        )
        super().__init__([_Attention(width, heads), nn.ModuleDict({"net": feed})])

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens after the block."""
        attend, feed = self.children()
        tokens = tokens + attend(tokens)
        return tokens + feed.get_submodule("net")(tokens)


class _Attention(nn.Module):
    """Attention of all tokens to all, normalised before, without offsets."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Attended tokens."""
        parts = self.to_qkv(self.norm(tokens)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.to_out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
