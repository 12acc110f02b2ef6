"""Segmenter: any encoder, the neck that fits, any decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Encoder, check_features
from medseg.models.network import Facts, Network
from medseg.weights.report import Report

LINEAR = {2: "bilinear", 3: "trilinear"}


class Segmenter(Network):
    """An encoder, and a decoder on its features; in two and three dimensions, as both permit.

    What the encoder declares is verified on the meta device when the network is built, before data is read.

    Args:
        facts: Data and plan; kernels and strides are not used.
        encoder: Makes the encoder from the facts.
        decoder: Makes the decoder from the facts and the features that the encoder declares.

    Raises:
        BadInput: Encoder and decoder do not fit each other, or the data.
    """

    def __init__(self, facts: Facts, *, encoder: Callable[[Facts], Encoder], decoder: Callable[..., Decoder]) -> None:
        built = encoder(facts)
        super().__init__(facts.in_channels, built.divisor, fixed_shape=built.fixed_shape)
        self.encoder = built
        shape = self.nearest(facts.patch_shape)
        check_features(built, facts.in_channels, self.fixed_shape or shape)
        self.decoder = decoder(facts, built.features)

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the encoder's weights, as asked; see ``Encoder.initialise``."""
        return self.encoder.initialise(statistics)

    def encode(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """The features of the encoder."""
        self.check(image)
        return self.encoder(image)

    def decode(self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell of ``image``, from its features; interpolated where the decoder is coarser."""
        logits = self.decoder(features, image)
        if logits.shape[2:] == image.shape[2:]:
            return logits
        mode = LINEAR[image.ndim - 2]
        return functional.interpolate(logits, tuple(image.shape[2:]), mode=mode, align_corners=False)

    def forward(self, image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *s"]:
        """Logits of each cell."""
        return self.decode(self.encode(image), image)
