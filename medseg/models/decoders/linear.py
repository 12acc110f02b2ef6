"""Linear: one logit a class from each cell of one feature, or of all."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, cat

from medseg.errors import InputError
from medseg.models.decoders.blocks import resize
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.layers import BATCH_NORM, CONV
from medseg.models.network import ModelSpec


class Linear(Decoder):
    """Batch normalisation and a linear map of features: what the encoder knows by itself.

    Args:
        spec: Data and plan.
        features: Features that the encoder declares.
        level: Index of the feature; -1 is the last. ``all`` interpolates all to the first, which is the finest,
            and concatenates their channels: the sum of a linear map of each. None takes all of a pyramid, whose last
            feature is too coarse for outlines, and the last of features of one resolution.

    Raises:
        InputError: No such feature.

    References:
        Oquab et al., DINOv2, 2023 (its linear evaluation of segmentation: the last feature, or the last
        four of one resolution). torchgeo-bench, 2026 (a linear map of each level, added up).
    """

    def __init__(self, spec: ModelSpec, features: Sequence[Feature], *, level: int | str | None = None) -> None:
        super().__init__(spec, features, layout="grids")
        n = len(features)
        if level is None:
            level = "all" if len({feature.stride for feature in features}) > 1 else -1
        if level != "all" and (isinstance(level, str) or not -n <= level < n):
            raise InputError(
                f"model.decoder.level={level}: the encoder has {n} features; expected {-n} to {n - 1} or all"
            )
        self.levels = range(n) if isinstance(level, str) else (level,)
        channels = sum(self.neck.features[i].channels for i in self.levels)
        self.norm = BATCH_NORM[spec.ndim](channels)
        self.head = CONV[spec.ndim](channels, spec.out_channels, 1)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at the stride of the feature, or of the finest."""
        levels = [grids[i] for i in self.levels]
        return self.head(self.norm(cat([resize(grid, levels[0].shape[2:]) for grid in levels], dim=1)))
