"""EncoderDecoder: any encoder, the neck that fits, any decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from medseg.errors import InputError
from medseg.models.case_path import case_path
from medseg.models.decoders.blocks import resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Encoder, check_features
from medseg.models.encoders.views import without_border
from medseg.models.network import ModelSpec, Network, refuse_lone_cell
from medseg.models.unused import drop_idle, trace
from medseg.weights.report import Report


class EncoderDecoder(Network):
    """An encoder, and a decoder on its features; in two and three dimensions, as both permit.

    What the encoder declares is verified on the meta device when the network is built, before data is read.
    Parts that no logit depends on, such as stages of which the decoder reads nothing, are dropped, before
    weights are loaded.

    Args:
        spec: Data and plan; kernels and strides are not used.
        encoder: Makes the encoder from the spec.
        decoder: Makes the decoder from the spec and the features that the encoder declares.
        facts: How facts of the case change the features of the encoder, see ``CasePath``; None for not at all.

    Raises:
        InputError: Encoder and decoder do not fit each other, or the data; the encoder is too deep for the patch.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        encoder: Callable[[ModelSpec], Encoder],
        decoder: Callable[..., Decoder],
        facts: str | None = None,
    ) -> None:
        built = encoder(spec)
        super().__init__(spec.in_channels, built.divisor, fixed_shape=built.fixed_shape)
        self.encoder, self.margin = built, built.margin
        shape = self._shape(spec.patch_shape)
        check_features(built, spec.in_channels, shape)
        self.decoder = decoder(spec, built.features)
        self.case_path = case_path(spec, built.features, facts)
        self._follow(self.case_path)
        self._drop_idle(spec, shape)

    def _shape(self, patch: Sequence[int]) -> tuple[int, ...]:
        """The shape of images that holds a patch.

        Raises:
            InputError: A stage would see less than one of its cells, or the encoder takes one shape that is another.
        """
        name = getattr(self.encoder, "name", type(self.encoder).__name__)
        coarsest = [max(strides) for strides in zip(*(f.stride for f in self.encoder.features), strict=True)]
        shape = self.fixed_shape or self.nearest(patch)
        way = f"set plan.patch=[{','.join(map(str, shape))}]"
        if any(p < c for p, c in zip(patch, coarsest, strict=True)):
            raise InputError(
                f"encoder {name} is too deep for the patch: its coarsest feature has cells of {tuple(coarsest)}, the "
                f"patch is {tuple(patch)}; {way} or larger, or take fewer of its features"
            )
        if any(p > s for p, s in zip(patch, shape, strict=True)):
            raise InputError(f"encoder {name} takes images of {shape} only, the patch is {tuple(patch)}; {way}")
        return shape

    def _drop_idle(self, spec: ModelSpec, shape: Sequence[int]) -> None:
        """Drop what no logit depends on, in training or after it; freeze what can't be taken out.

        Raises:
            InputError: The decoder gives other logits than of each class at the image's resolution.
        """
        image = (2, spec.in_channels, *shape)  # of two, which batch normalisation takes where one cell is left
        logits, used = trace(self, image)
        expected = (2, spec.out_channels, *(n - 2 * m for n, m in zip(shape, self.margin, strict=True)))
        if logits != expected:
            name = type(self.decoder).__name__
            raise InputError(f"decoder {name}: got logits of shape {logits}, expected {expected}")
        used |= trace(self, image, training=True)[1]
        dropped = drop_idle(self, used)
        try:
            if dropped:
                trace(self, image)
        except (TypeError, AttributeError, RuntimeError):  # called with more than the image, or for its parts
            for name, module in dropped.items():
                parent, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(parent), leaf, module)
        for name, parameter in self.named_parameters():
            if name not in used:
                parameter.requires_grad_(False)

    @property
    def settled(self) -> Mapping[str, object]:
        """What the encoder found elsewhere; see ``Network.settled``."""
        return {"encoder": self.encoder.settled} if self.encoder.settled else {}

    @property
    def stem_kernel(self) -> str | tuple[str, ...] | None:
        """The encoder's."""
        stem, trunk = self.encoder.stem, self.encoder.trunk
        prefix = next((name for name, module in self.named_modules() if module is trunk), None)
        if stem is None or prefix is None:
            return None
        return tuple(f"{prefix}.{name}" for name in ([stem] if isinstance(stem, str) else stem))

    def initialise(self, statistics: Mapping[str, Sequence[float]] | None = None) -> Report | None:
        """Load the encoder's weights, as asked; see ``Encoder.initialise``."""
        return self.encoder.initialise(statistics)

    def encode(self, image: Float[Tensor, "b c *s"], **context: Tensor | None) -> list[Tensor]:
        """The features of the encoder.

        Args:
            image: See ``Network``.
            context: ``present`` and ``days`` of time series, for an encoder that takes them.

        Raises:
            InputError: See ``check``; or, in training, a layer is to normalise a batch of one value.
        """
        self.check(image)
        with refuse_lone_cell(f"encoder {type(self.encoder).__name__}", image.shape[2:]):
            return self.encoder(image, **context)

    def decode(
        self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits of each cell of ``image``, from its features; interpolated where the decoder is coarser.

        In training a list where the decoder gives one, of which the first is at the image's resolution.
        """
        logits = self.decoder(features, image)
        if isinstance(logits, list):
            return [resize(logits[0], image.shape[2:]), *logits[1:]]
        return resize(logits, image.shape[2:])

    def forward(
        self, image: Float[Tensor, "b c *s"], facts: Float[Tensor, "b f"] | None = None, *, named: bool = False
    ) -> Any:
        """Logits of each cell further from the border than ``margin``; with a class of cases, see ``Network``.

        Args:
            image: See ``Network``.
            facts: Encoded facts of the cases; None where all are missing.
            named: Give logits of the class of the case outside of training too.
        """
        features, within = self.encode(image), without_border(image, self.margin)
        if self.case_path is None:
            return self.decode(features, within)
        named = named or self.training
        return self.case_path(features, facts, lambda changed: self.decode(changed, within), named=named)
