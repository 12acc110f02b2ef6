"""Decoder: the interface of all decoders of the encoder-decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from medseg.models.decoders.neck import FeatureLayout, Neck
from medseg.models.encoders.encoder import Feature
from medseg.models.network import ModelSpec, refuse_lone_cell


class Decoder(nn.Module, ABC):
    """Maps features to logits, at the resolution of the image or a coarser one.

    Subclasses take ``(spec: ModelSpec, features: Sequence[Feature], *, settings)``; their yaml stands in
    ``conf/model/decoder`` with ``_partial_: true``. The neck belongs to the decoder, because it is derived
    from the layout that the decoder takes; subclasses build on ``self.neck.features``, which are grids. Their
    strides need not be whole numbers or powers of two, and a coarse grid may reach beyond the image by a part
    of a cell: where shapes matter, decoders take those of the grids.

    Attributes:
        ndims: Numbers of spatial axes that it is built for.
        instead: Hint next to a larger batch, where one image is too few for batch normalisation.

    Args:
        spec: Data and plan; ``out_channels`` is the number of logits, k.
        features: Features that the encoder declares.
        layout: Layout of the features that the decoder takes.

    Raises:
        InputError: Features that the neck cannot bring into this layout.
    """

    ndims: ClassVar[tuple[int, ...]] = (2, 3)
    instead: str = ""

    def __init__(self, spec: ModelSpec, features: Sequence[Feature], *, layout: FeatureLayout) -> None:
        super().__init__()
        self.neck = Neck(features, layout)
        self.ndim = spec.ndim

    def forward(
        self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]
    ) -> Float[Tensor, "b k *t"] | list[Tensor]:
        """Logits from the features of ``image``; the encoder-decoder resamples them to the image's resolution.

        In training, decoders with deep supervision or auxiliary logits give a list from fine to coarse,
        of which the encoder-decoder enlarges the first (see ``Network.forward``).

        Raises:
            InputError: In training, a layer is to normalise one value over a batch of one.
        """
        with refuse_lone_cell(f"decoder {type(self).__name__}", image.shape[2:], self.instead):
            return self.decode(self.neck(features, image.shape[2:]), image)

    @abstractmethod
    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"] | list[Tensor]:
        """Logits from the neck's features; the image is for skips at full resolution."""
