"""Transformer blocks with separate queries, keys and values, and with rotations if there are some."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attention of all tokens to all.

    Args:
        width: Numbers in a token.
        heads: Of attention.
        axes: Coordinates by which learned frequencies turn queries and keys; 0 for none.
    """

    def __init__(self, width: int, heads: int, axes: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        if axes:
            self.rope_mixed_freqs = nn.Parameter(mixed_frequencies(axes, heads, width // heads))

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        places: Float[Tensor, "#b n a"] | None = None,
        mask: Bool[Tensor, "#b 1 1 n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Attended tokens.

        Args:
            tokens: Before.
            places: Their coordinates, where frequencies are learned.
            mask: False for tokens that none attends to; None if there are none.
        """
        q, k, v = (f(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if places is not None:
            angles = torch.einsum("bna,ahd->bhnd", places, self.rope_mixed_freqs.float())
            q, k = turned(q, angles), turned(k, angles)
        return self.proj(functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with GELU between them.

    Args:
        width: Numbers in a token.
        ratio: Times that the layer between is wider.
    """

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens, each by itself."""
        return self.fc2(functional.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and a layer of each token, each normalised before and added.

    Args:
        width: Numbers in a token.
        heads: Of attention.
        axes: See ``Attention``.
        eps: Of the normalisation.
    """

    def __init__(self, width: int, heads: int, axes: int = 0, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn, self.mlp = Attention(width, heads, axes), Mlp(width)

    def forward(
        self,
        tokens: Float[Tensor, "b n d"],
        places: Float[Tensor, "#b n a"] | None = None,
        mask: Bool[Tensor, "#b 1 1 n"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Tokens after the block; see ``Attention``."""
        tokens = tokens + self.attn(self.norm1(tokens), places, mask)
        return tokens + self.mlp(self.norm2(tokens))


def turned(vectors: Float[Tensor, "b h n d"], angles: Float[Tensor, "#b h n c"]) -> Float[Tensor, "b h n d"]:
    """Neighbouring pairs of numbers, turned by their angles in the plane; d is 2 c.

    Example:
        >>> turned(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[torch.pi / 2]]]])).round().abs().tolist()
        [[[[0.0, 1.0]]]]
    """
    even, odd = vectors.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


def mixed_frequencies(axes: int, heads: int, width: int, base: float = 10000.0) -> Float[Tensor, "a h c"]:
    """Frequencies to begin with: of each head along two random directions at a right angle, from 1 down to 1 / base.

    Args:
        axes: Coordinates of a token, a.
        heads: Of attention, h.
        width: Numbers in a head, a multiple of 4; c is half of it.
        base: See above.

    References:
        Heo et al., Rotary Position Embedding for Vision Transformer, 2024, in two dimensions.
    """
    directions = torch.linalg.qr(torch.randn(heads, axes, 2)).Q
    size = base ** -(torch.arange(0, width, 4) / width)
    return torch.einsum("hap,c->ahpc", directions, size).flatten(2)
