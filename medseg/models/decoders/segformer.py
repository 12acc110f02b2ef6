"""SegFormer's head: every feature projected to one width, enlarged, concatenated and fused."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, cat, nn

from medseg.models.decoders.blocks import INSTEAD, conv_norm_relu, fraction, positive, resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import CONV
from medseg.models.network import ModelSpec


class SegFormer(Decoder):
    """A linear map of each level to one width, linear interpolation to the finest, a linear map of all.

    No cell sees its neighbours here but by interpolation: context is left to the encoder. Logits come at
    the stride of the finest feature.

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        channels: The common width.
        dropout: Share of whole channels dropped before the head, in training.
        norm: ``batch``, or ``group`` for batches of one.

    Raises:
        InputError: Settings out of range; features that don't make a pyramid.

    References:
        Xie et al., SegFormer, NeurIPS 2021 (its two widths are 256 and 768).
    """

    instead = INSTEAD

    def __init__(
        self,
        spec: ModelSpec,
        features: Sequence[Feature],
        *,
        channels: int = 256,
        dropout: float = 0.1,
        norm: str = "batch",
    ) -> None:
        super().__init__(spec, features, layout="pyramid")
        positive(channels=channels)
        fraction(dropout=dropout)
        self.project = nn.ModuleList(CONV[spec.ndim](f.channels, channels, 1) for f in self.neck.features)
        self.fuse = conv_norm_relu(len(features) * channels, channels, 1, spec.ndim, norm)
        self.dropout = nn.Dropout1d(dropout)
        self.head = CONV[spec.ndim](channels, spec.out_channels, 1)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at the stride of the finest feature."""
        shape = grids[0].shape[2:]
        levels = [resize(project(grid), shape) for project, grid in zip(self.project, grids, strict=True)]
        fused = self.fuse(cat(levels[::-1], dim=1))  # coarse first, as in published weights
        return self.head(self.dropout(fused.flatten(2)).unflatten(2, shape))
