"""UPerNet: a pooled pyramid of the coarsest feature above a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, cat, nn

from medseg.errors import InputError
from medseg.models.decoders.blocks import INSTEAD, conv_norm_relu, fraction, positive, resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import CONV
from medseg.models.network import ModelSpec

POOL: dict[int, type[nn.Module]] = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class UPerNet(Decoder):
    """The coarsest feature, pooled to several grids for context, is led down a feature pyramid.

    smp's UPerNet (``model/decoder=smp``) is for images only, leaves out features finer than a quarter of
    the image, and normalises each feature by itself beforehand, which the original does not. Logits come
    at the stride of the finest feature; at strides below 4 it is slow (leave such features out by
    ``model.encoder.indices``).

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        channels: The common width of all levels.
        pool: Cells on each axis of the grids that the coarsest feature is pooled to.
        dropout: Share of whole channels dropped before the head, in training.
        norm: ``batch``, or ``group`` for batches of one: a pool of one cell can't be normalised over one image.

    Raises:
        InputError: Settings out of range; features that don't make a pyramid.

    References:
        Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018.
    """

    instead = INSTEAD

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        channels: int = 256,
        pool: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        norm: str = "batch",
    ) -> None:
        super().__init__(spec, features, layout="pyramid")
        positive(channels=channels)
        fraction(dropout=dropout)
        if not pool or min(pool) < 1:
            raise InputError(f"model.decoder.pool={list(pool)}: expected one size or more, of 1 cell or more")
        *finer, coarsest = (f.channels for f in self.neck.features)
        ndim = spec.ndim
        self.pools = nn.ModuleList(
            nn.Sequential(POOL[ndim](size), conv_norm_relu(coarsest, channels, 1, ndim, norm)) for size in pool
        )
        self.context = conv_norm_relu(coarsest + len(pool) * channels, channels, 3, ndim, norm)
        self.lateral = nn.ModuleList(conv_norm_relu(c, channels, 1, ndim, norm) for c in finer)
        self.smooth = nn.ModuleList(conv_norm_relu(channels, channels, 3, ndim, norm) for _ in finer)
        self.fuse = conv_norm_relu(len(features) * channels, channels, 3, ndim, norm)
        self.dropout = nn.Dropout1d(dropout)
        self.head = CONV[ndim](channels, spec.out_channels, 1)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at the stride of the finest feature."""
        *finer, coarsest = grids
        pooled = [resize(pool(coarsest), coarsest.shape[2:]) for pool in self.pools]
        levels = [self.context(cat((coarsest, *pooled), dim=1))]
        for lateral, grid in zip(reversed(self.lateral), reversed(finer), strict=True):
            levels.insert(0, lateral(grid) + resize(levels[0], grid.shape[2:]))
        levels = [*(smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)), levels[-1]]
        shape = grids[0].shape[2:]
        fused = self.fuse(cat([resize(level, shape) for level in levels], dim=1))
        return self.head(self.dropout(fused.flatten(2)).unflatten(2, shape))
