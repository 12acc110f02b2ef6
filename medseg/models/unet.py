"""UNet: a U-Net whose stages follow the plan; plain or with a residual encoder."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from jaxtyping import Float
from torch import Tensor, cat, nn

from medseg.errors import InputError
from medseg.models.case_path import case_path
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import CONV, CONV_TRANSPOSED, NORMS, ConvBlock, ResidualBlock, init_he, stack
from medseg.models.network import ModelSpec, Network
from medseg.weights.nnunet_names import unet_of
from medseg.weights.pretrained import Pretrained
from medseg.weights.unet_geometry import UNetGeometry

_MAX_FEATURES = {2: 512, 3: 320}
"""Default upper bound of the channels, by the number of spatial axes."""


class UNet(Network):
    """U-Net with the planned kernels and strides, after nnU-Net.

    Strided convolutions go down, transposed ones up, skips are concatenated. With ``residual`` a stem
    of one convolution precedes residual encoder blocks; decoder blocks are always plain.

    MONAI's DynUNet is no faster or slower at equal parameters (5.6 million; two patches of 40 x 56 x 40
    per step on one core: 2.6 s both in float32, 1.3 s both in bfloat16), but it has no residual encoder
    of several blocks, and it interpolates all logits of deep supervision to full resolution.

    Args:
        spec: Data and plan.
        base_features: Channels of the first stage; they double with every stage.
        max_features: Upper bound of the channels; None for 512 in two and 320 in three dimensions.
        encoder_blocks: Blocks per stage, fine to coarse; the last number holds for all further stages.
        decoder_blocks: Blocks per upsampling, from coarse to fine; the last number holds for all further ones.
        residual: Whether the encoder is residual.
        norm: ``instance`` as in nnU-Net, ``batch`` or ``group`` (see ``normalisation``).
        deep_supervision: In training, logits of every decoder stage instead of the finest only.
        facts: How facts of the case change the features of the encoder, see ``CasePath``; None for not at all.

    Raises:
        InputError: The plan has a single stage, settings are not positive, or an unknown norm.

    References:
        Isensee et al., nnU-Net, Nature Methods 2021, and nnU-Net Revisited, 2024 (residual encoder).
    """

    follows_plan = True

    def __init__(
        self,
        spec: ModelSpec,
        *,
        base_features: int = 32,
        max_features: int | None = None,
        encoder_blocks: Sequence[int] = (2,),
        decoder_blocks: Sequence[int] = (2,),
        residual: bool = False,
        norm: str = "instance",
        deep_supervision: bool = True,
        facts: str | None = None,
    ) -> None:
        divisor = [prod(axis) for axis in zip(*spec.strides, strict=True)]
        super().__init__(spec.in_channels, divisor, min_cells=2)
        _check_settings(spec, base_features, encoder_blocks, decoder_blocks, norm)
        most = max_features or _MAX_FEATURES[spec.ndim]
        features = [min(base_features * 2**i, most) for i in range(len(spec.strides))]
        ones = (1,) * spec.ndim
        self.deep_supervision = deep_supervision
        self.geometry = _geometry(spec, features, encoder_blocks, decoder_blocks, residual=residual)
        self.stem: nn.Module = nn.Identity()
        block: type[ConvBlock] | type[ResidualBlock] = ConvBlock
        in_features = spec.in_channels
        if residual:
            self.stem = ConvBlock(spec.in_channels, features[0], spec.kernels[0], ones, norm)
            block, in_features = ResidualBlock, features[0]
        before = [in_features, *features]
        self.encoder = nn.ModuleList(
            stack(block, _nth(encoder_blocks, i), before[i], features[i], kernel, stride, norm)
            for i, (kernel, stride) in enumerate(zip(spec.kernels, spec.strides, strict=True))
        )
        coarse_to_fine = range(len(features) - 2, -1, -1)
        self.up = nn.ModuleList(
            CONV_TRANSPOSED[spec.ndim](features[i + 1], features[i], spec.strides[i + 1], spec.strides[i + 1])
            for i in coarse_to_fine
        )
        self.decoder = nn.ModuleList(
            stack(ConvBlock, _nth(decoder_blocks, step), 2 * features[i], features[i], spec.kernels[i], ones, norm)
            for step, i in enumerate(coarse_to_fine)
        )
        supervised = coarse_to_fine if deep_supervision else [0]
        self.heads = nn.ModuleList(CONV[spec.ndim](features[i], spec.out_channels, 1) for i in supervised)
        init_he(self)
        self.case_path = case_path(spec, [Feature(n, ones) for n in features], facts)
        self._follow(self.case_path)

    @property
    def stem_kernel(self) -> str:
        """The first convolution."""
        return "stem.0.weight" if self.geometry.residual else "encoder.0.0.0.weight"

    def adopt(self, found: Pretrained) -> Pretrained:
        """Weights of nnU-Net under the names of this network; see ``weights.nnunet_names.unet_of``."""
        return unet_of(found, self.geometry, len(self.divisor), heads=len(self.heads))

    def forward(
        self, image: Float[Tensor, "b c *s"], facts: Float[Tensor, "b f"] | None = None, *, named: bool = False
    ) -> Any:
        """Logits, as ``Network`` says; a list from fine to coarse in training under deep supervision.

        Args:
            image: See ``Network``.
            facts: Encoded facts of the cases; None where all are missing.
            named: Give logits of the class of the case outside of training too.
        """
        features = self.encode(image)
        if self.case_path is None:
            return self.decode(features, image)
        named = named or self.training
        return self.case_path(features, facts, lambda changed: self.decode(changed, image), named=named)

    def encode(self, image: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features of each stage, fine to coarse."""
        self.check(image)
        feature, features = self.stem(image), []
        for stage in self.encoder:
            feature = stage(feature)
            features.append(feature)
        return features

    def decode(
        self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]
    ) -> Float[Tensor, "b k *s"] | list[Tensor]:
        """Logits from the features of each stage; the image itself is not used."""
        del image
        feature, decoded = features[-1], []
        for up, stage, skip in zip(self.up, self.decoder, reversed(features[:-1]), strict=True):
            feature = stage(cat((up(feature), skip), dim=1))
            decoded.append(feature)
        if self.training and self.deep_supervision:
            return [head(f) for head, f in zip(self.heads, decoded, strict=True)][::-1]
        return self.heads[-1](feature)


def _check_settings(
    spec: ModelSpec, base_features: int, encoder_blocks: Sequence[int], decoder_blocks: Sequence[int], norm: str
) -> None:
    """Raise on a plan with a single stage, on numbers that are not positive, and on an unknown norm."""
    n = len(spec.strides)
    if n < 2 or min(base_features, *encoder_blocks, *decoder_blocks) < 1:
        raise InputError(
            f"UNet: expected two stages or more and positive features and blocks, got {n} stages for the patch "
            f"{spec.patch_shape}, base_features={base_features}, encoder_blocks={list(encoder_blocks)}, "
            f"decoder_blocks={list(decoder_blocks)}; plan a patch of at least 12 cells on some axis"
        )
    if norm not in NORMS:
        raise InputError(f"model.norm={norm}: expected one of {', '.join(NORMS)}")


def _geometry(
    spec: ModelSpec,
    features: Sequence[int],
    encoder_blocks: Sequence[int],
    decoder_blocks: Sequence[int],
    *,
    residual: bool,
) -> UNetGeometry:
    """The shape that weights of other packages are compared with."""
    stages = range(len(features))
    encoder = tuple(_nth(encoder_blocks, i) for i in stages)
    decoder = tuple(_nth(decoder_blocks, i) for i in stages[:-1])
    return UNetGeometry(residual, tuple(features), tuple(spec.kernels), tuple(spec.strides), encoder, decoder)


def _nth(numbers: Sequence[int], i: int) -> int:
    """The i-th number; beyond the end the last one."""
    return numbers[min(i, len(numbers) - 1)]
