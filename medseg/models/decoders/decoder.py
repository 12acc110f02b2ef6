"""Decoder: what every decoder promises the segmenter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medseg.models.encoders.encoder import Feature
from medseg.models.neck import Asks, Neck
from medseg.models.network import Facts


class Decoder(nn.Module, ABC):
    """Maps features to logits, at the resolution of the image or a coarser one.

    Subclasses take ``(facts: Facts, features: Sequence[Feature], *, settings)``; their yaml stands in
    ``conf/model/decoder`` with ``_partial_: true``. The neck belongs to the decoder, because it is derived
    from what the decoder asks for; subclasses build on ``self.neck.features``, which are grids.

    Args:
        facts: Data and plan; ``out_channels`` is the number of logits, k.
        features: What the encoder declares.
        asks: What the decoder asks for.

    Raises:
        BadInput: Features that the neck cannot give it.
    """

    def __init__(self, facts: Facts, features: Sequence[Feature], *, asks: Asks) -> None:
        super().__init__()
        self.neck = Neck(features, asks)
        self.ndim = facts.ndim

    def forward(self, given: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits from what the encoder gave for ``image``; the segmenter brings them to the image's resolution."""
        return self.decode(self.neck(given, image.shape[2:]), image)

    @abstractmethod
    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits from the neck's features; the image is for skips at full resolution."""
