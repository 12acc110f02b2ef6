"""DPT: features of a plain transformer reassembled to a pyramid and fused by residual convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log2

from jaxtyping import Float
from torch import Tensor, cat, nn

from medseg.errors import InputError
from medseg.models.decoders.blocks import INSTEAD, conv_norm_relu, fraction, norm_layer, one_of, positive, resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import CONV, CONV_TRANSPOSED
from medseg.models.network import ModelSpec

READOUTS = ("project", "ignore")


class DPT(Decoder):
    """Dense prediction transformer: reassembles features, then fuses them from coarse to fine.

    Features of one stride (a plain transformer) are reassembled from early to late to 4, 2, 1 and 1/2
    times their resolution, others by the same rule, and never finer than 2 cells of the image; a pyramid stays at
    its strides. Logits come at half the stride of the finest level. Interpolation aligns corners, as in
    the original and in published weights; all else in this package keeps the extent.

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        channels: Widths of the reassembled levels, fine to coarse; the last number holds for all further.
        fusion_channels: Width of the fusion.
        readout: ``project`` lets a linear map and a GELU mix the first token without a place (the class
            token) into all others, where the encoder gives one; ``ignore`` leaves it out.
        dropout: Share of whole channels dropped before the head, in training.
        norm: ``batch``, or ``group`` for batches of one.

    Raises:
        InputError: Settings out of range.

    References:
        Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021. In smp's this is
        ``decoder_readout=cat``, for strides that are powers of two.
    """

    instead = INSTEAD

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        channels: Sequence[int] = (96, 192, 384, 768),
        fusion_channels: int = 256,
        readout: str = "project",
        dropout: float = 0.1,
        norm: str = "batch",
    ) -> None:
        super().__init__(spec, features, layout="grids")
        positive(fusion_channels=fusion_channels)
        fraction(dropout=dropout)
        one_of("readout", readout, READOUTS)
        if not channels or min(channels) < 1:
            raise InputError(f"model.decoder.channels={list(channels)}: expected one width or more, each of 1 or more")
        self.readout = nn.ModuleList(_readout(f, projected=readout == "project") for f in features)
        widths = [channels[min(i, len(channels) - 1)] for i in range(len(features))]
        self.reassemble = nn.ModuleList(
            _reassemble(f, width, fusion_channels, power)
            for f, width, power in zip(features, widths, _powers(features), strict=True)
        )
        self.fuse = nn.ModuleList(Fusion(fusion_channels, spec.ndim, norm) for _ in features)
        self.smooth = conv_norm_relu(fusion_channels, fusion_channels, 3, spec.ndim, norm)
        self.dropout = nn.Dropout1d(dropout)
        self.head = CONV[spec.ndim](fusion_channels, spec.out_channels, 1)

    def forward(
        self, features: Sequence[Tensor], image: Float[Tensor, "b c *s"]
    ) -> Float[Tensor, "b k *t"] | list[Tensor]:
        """Logits from what the encoder gave; the class token is read before it is left out."""
        read = []
        for tokens, readout in zip(features, self.readout, strict=True):
            if not isinstance(readout, nn.Identity):
                first = tokens[:, :1].expand_as(tokens)
                tokens = readout(cat((tokens, first), dim=2))
            read.append(tokens)
        return super().forward(read, image)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at half the stride of the finest level."""
        levels = [reassemble(grid) for reassemble, grid in zip(self.reassemble, grids, strict=True)]
        shapes = [level.shape[2:] for level in levels]
        finest = [min(2 * s, i) for s, i in zip(shapes[0], image.shape[2:], strict=True)]
        fused: Tensor | None = None
        for fuse, level, shape in zip(self.fuse, reversed(levels), [*reversed(shapes[:-1]), finest], strict=True):
            fused = fuse(level, fused, shape)
        smooth = self.smooth(fused)
        return self.head(self.dropout(smooth.flatten(2)).unflatten(2, smooth.shape[2:]))


class Fusion(nn.Module):
    """A level refined, what comes from coarser levels added, refined again and brought to the next shape.

    Args:
        channels: Number of channels of level and result.
        ndim: Spatial axes.
        norm: See ``norm_layer``.
    """

    def __init__(self, channels: int, ndim: int, norm: str) -> None:
        super().__init__()
        self.before = Refine(channels, ndim, norm)
        self.after = Refine(channels, ndim, norm)
        self.project = CONV[ndim](channels, channels, 1)

    def forward(
        self, level: Float[Tensor, "b c *s"], coarser: Float[Tensor, "b c *s"] | None, shape: Sequence[int]
    ) -> Float[Tensor, "b c *t"]:
        """The fused level on a grid of ``shape``."""
        fused = self.before(level)
        if coarser is not None:
            fused = fused + coarser
        return self.project(resize(self.after(fused), shape, align_corners=True))


class Refine(nn.Module):
    """Two convolutions, each after a ReLU, added to their input.

    Args:
        channels: Number of channels of input and result.
        ndim: Spatial axes.
        norm: See ``norm_layer``.
    """

    def __init__(self, channels: int, ndim: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            conv = CONV[ndim](channels, channels, 3, padding=1, bias=False)
            layers += [nn.ReLU(), conv, norm_layer(norm, channels, ndim)]
        self.layers = nn.Sequential(*layers)

    def forward(self, level: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """The level, refined."""
        return level + self.layers(level)


def _readout(feature: Feature, *, projected: bool) -> nn.Module:
    """The layer that mixes the class token into the others, for tokens with a class token; else the identity."""
    if projected and feature.tokens and feature.prefix > 0:
        return nn.Sequential(nn.Linear(2 * feature.channels, feature.channels), nn.GELU())
    return nn.Identity()


def _powers(features: Sequence[Feature]) -> list[int]:
    """How many times finer each level is to become, as a power of two."""
    plain = len({f.stride for f in features}) == 1 < len(features)
    return [len(features) - 2 - i if plain else 0 for i in range(len(features))]


def _reassemble(feature: Feature, width: int, channels: int, power: int) -> nn.Sequential:
    """Project to ``width``, resample (no axis finer than 2 cells, those of stride 1 not at all), project again."""
    ndim = len(feature.stride)
    powers = [min(power, floor(log2(max(s / 2, 1)))) if s > 1 else 0 for s in feature.stride]
    layers = [CONV[ndim](feature.channels, width, 1)]
    if power < 0:
        layers.append(CONV[ndim](width, width, 3, [2**-p for p in powers], 1))
    elif any(powers):
        factors = [2**p for p in powers]
        layers.append(CONV_TRANSPOSED[ndim](width, width, factors, factors))
    return nn.Sequential(*layers, CONV[ndim](width, channels, 3, padding=1, bias=False))
