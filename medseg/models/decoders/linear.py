"""Linear: one logit a class from each cell of one feature."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import BadInput
from medseg.models.blocks import CONV
from medseg.models.decoders.decoder import Decoder
from medseg.models.encoders.encoder import Feature
from medseg.models.network import Facts

BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Linear(Decoder):
    """Batch normalisation and a linear map of one feature: what the encoder knows by itself.

    Args:
        facts: Data and plan.
        features: What the encoder declares.
        level: Which feature; -1 is the last.

    Raises:
        BadInput: No such feature.

    References:
        Oquab et al., DINOv2, 2023 (its linear evaluation of segmentation).
    """

    def __init__(self, facts: Facts, features: Sequence[Feature], *, level: int = -1) -> None:
        super().__init__(facts, features, asks="grids")
        if not -len(features) <= level < len(features):
            raise BadInput(f"model.decoder.level={level}: the encoder has {len(features)} features")
        self.level = level
        channels = self.neck.features[level].channels
        self.norm = BATCH_NORM[facts.ndim](channels)
        self.head = CONV[facts.ndim](channels, facts.out_channels, 1)

    def decode(self, grids: Sequence[Tensor], image: Float[Tensor, "b c *s"]) -> Float[Tensor, "b k *t"]:
        """Logits at the stride of the feature."""
        return self.head(self.norm(grids[self.level]))
