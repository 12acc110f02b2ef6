"""PlainViT: transformers of equal blocks over tokens of equal patches; features are tokens at several depths."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.axes import check_axes
from medseg.models.encoders.encoder import Encoder, Feature
from medseg.models.network import ModelSpec


class PlainViT(Encoder):
    """A plain vision transformer; 2D only.

    Subclasses make the first tokens (``embed``); the loop over ``trunk.blocks`` is here, so that features of any
    depth are at hand without hooks. Images of any multiple of the patch are taken, square or not.

    Attributes:
        depths: Blocks after which features are taken, from 0.

    Args:
        spec: Data and plan.
        name: Name of the family, for messages.
        width: Numbers in a token.
        depth: Blocks of the upstream's network.
        patch: Cells of a token's patch on each axis.
        indices: See ``depths``; None for four evenly spaced. Blocks after the last of them are left out.
        prefix: Tokens without a place, ahead of the grid's.
        loading: See ``Encoder``.

    Raises:
        InputError: Volumes; indices that are not blocks in order.
    """

    ndims = (2,)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        name: str,
        width: int,
        depth: int,
        patch: int,
        indices: Sequence[int] | None,
        prefix: int = 1,
        **loading: Any,
    ) -> None:
        check_axes(f"encoder {name}", self.ndims, spec)
        self.depths = choose(depth, indices)
        feature = Feature(width, (patch, patch), tokens=True, prefix=prefix)
        super().__init__(spec, [feature] * len(self.depths), (patch, patch), **loading)
        self.full_depth = depth

    def grid(self, image: Float[Tensor, "b c h w"]) -> tuple[int, int]:
        """Rows and columns of patches."""
        return image.shape[2] // self.divisor[0], image.shape[3] // self.divisor[1]

    @abstractmethod
    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Tokens as the first block takes them: those without a place, then the grid's in row-major order."""

    def layers(self, image: Float[Tensor, "b c h w"]) -> Iterable[Callable[[Tensor], Tensor]]:
        """The blocks in order, each from tokens to tokens; for families whose blocks take more than tokens."""
        del image
        return self.trunk.get_submodule("blocks").children()

    def finish(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """A feature from the tokens after a block: as they are, unless the weights come with a last normalisation."""
        return tokens

    def forward(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The declared features."""
        tokens = self.embed(image)
        features = []
        for depth, block in enumerate(self.layers(image)):
            tokens = block(tokens)
            if depth in self.depths:
                features.append(self.finish(tokens))
        return features


class Size(NamedTuple):
    """Size of a transformer.

    Attributes:
        embed_dim: Numbers in a token.
        depth: Blocks.
        num_heads: Heads of attention in each.
    """

    embed_dim: int
    depth: int
    num_heads: int


def sized(
    sizes: Mapping[str, Size], size: str, embed_dim: int | None, depth: int | None, num_heads: int | None
) -> Size:
    """One of the sizes of a family, with what is set apart from it.

    Raises:
        InputError: No such size.

    Example:
        >>> sized({"base": Size(768, 12, 12)}, "base", None, 4, None)
        Size(embed_dim=768, depth=4, num_heads=12)
    """
    if size not in sizes:
        raise InputError(f"model.encoder.size={size}: expected one of {', '.join(sizes)}")
    shape = sizes[size]
    return Size(embed_dim or shape.embed_dim, depth or shape.depth, num_heads or shape.num_heads)


def choose(depth: int, indices: Sequence[int] | None, *, features: int = 4) -> tuple[int, ...]:
    """The blocks after which features are taken.

    Args:
        depth: Number of blocks.
        indices: Indices of the settings; None for ``features`` evenly spaced ones, up to the last block.
        features: Number of features, or all blocks if there are fewer.

    Raises:
        InputError: Indices that are not blocks in order.

    Example:
        >>> choose(12, None), choose(24, None), choose(6, None), choose(2, None)
        ((2, 5, 8, 11), (5, 11, 17, 23), (0, 2, 3, 5), (0, 1))
    """
    if indices is None:
        n = min(features, depth)
        return tuple((i + 1) * depth // n - 1 for i in range(n))
    depths = tuple(indices)
    if not depths or list(depths) != sorted(set(depths)) or not 0 <= depths[0] <= depths[-1] < depth:
        raise InputError(
            f"model.encoder.indices={list(depths)}: expected blocks in rising order, each from 0 to {depth - 1}"
        )
    return depths


def sine_positions(width: int, rows: Float[Tensor, " h"], columns: Float[Tensor, " w"]) -> Float[Tensor, "n d"]:
    r"""Embedding of the places of a grid by sines and cosines, in row-major order.

    The first half of the numbers tells the column, the second the row; of each, the first half are sines and
    the second cosines of :math:`p / 10000^{i / (d / 4)}`.

    Args:
        width: Numbers in an embedding, d; a multiple of 4.
        rows: Place of each row.
        columns: Place of each column.

    References:
        He et al., Masked Autoencoders Are Scalable Vision Learners, 2021.
    """
    by_row = sines(width // 2, rows)[:, None].expand(-1, len(columns), -1)
    by_column = sines(width // 2, columns)[None].expand(len(rows), -1, -1)
    return torch.cat((by_column, by_row), dim=2).flatten(0, 1)


def sines(width: int, places: Float[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
    r"""Embedding of numbers: sines and then cosines of :math:`p / 10000^{i / (d / 2)}`.

    Args:
        width: Numbers in an embedding, d; a multiple of 2.
        places: The numbers, p.

    Example:
        >>> sines(4, torch.tensor([0.0, 1.0]))[0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    rate = 10000 ** -(torch.arange(width // 2, dtype=places.dtype, device=places.device) / (width / 2))
    angles = places[..., None] * rate
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def fill_with_sines(positions: nn.Parameter) -> None:
    """Let random weights begin with the sine positions of a square grid; the class token's is zero.

    torchgeo leaves them zero, for a file to fill; without one, a network that never trains them could not
    tell places apart.
    """
    side = round((positions.shape[1] - 1) ** 0.5)
    places = torch.arange(side, dtype=torch.float32)
    with torch.no_grad():
        positions[:, 1:] = sine_positions(positions.shape[2], places, places)
