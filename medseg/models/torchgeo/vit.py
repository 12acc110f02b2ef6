"""TorchgeoViT: plain transformers in several sizes, of some of which torchgeo has weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from medseg.models.encoders.vit import PlainViT, Size, sized
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.weights import fetch_published
from medseg.weights.pretrained import Pretrained


class TorchgeoViT(PlainViT):
    """See ``PlainViT``; subclasses say of which sizes and weights, and build ``net``.

    Attributes:
        size: As asked for.
        shape: Its numbers, with what is set apart from it, and only the blocks that features depend on.
        net: The upstream's network.

    Args:
        spec: Data and plan.
        size: One of ``sizes``.
        patch: Cells of a token's patch on each axis.
        embed_dim: Numbers in a token instead of the size's.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        indices: Blocks after which features are taken; None for four evenly spaced.
        loading: See ``Encoder``; for ``weights``, ``pretrained`` are torchgeo's.

    Raises:
        InputError: Volumes, an unknown size, or indices that are not blocks in order.
    """

    family: ClassVar[str]
    """Its name in ``conf/model/encoder``."""
    sizes: ClassVar[Mapping[str, Size]]
    published: ClassVar[Mapping[str, str]]
    """Full name of torchgeo's entry by size."""
    preparation: ClassVar[str] = ""
    """How images were prepared for the published weights, in words, where torchgeo does not say it."""

    net: Any

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str,
        patch: int = 16,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        **loading: Any,
    ) -> None:
        chosen = sized(self.sizes, size, embed_dim, depth, num_heads)
        super().__init__(
            spec,
            name=self.family,
            width=chosen.embed_dim,
            depth=chosen.depth,
            patch=patch,
            indices=indices,
            **loading,
        )
        self.size, self.shape = size, chosen._replace(depth=self.depths[-1] + 1)

    @property
    def trunk(self) -> nn.Module:
        """The upstream's network, without its head."""
        return self.net

    @property
    def stem(self) -> str | None:
        """None where kernels are made for the channels, or are the same for each."""
        return None

    def fetch(self, source: str) -> Pretrained:
        """A file, or torchgeo's weights; a file that tells nothing is taken to be of the same images."""
        return fetch_published(source, self.published, self.size, self.preparation)
