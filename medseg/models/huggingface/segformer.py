"""HfSegformer: SegFormer of transformers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from medseg.models.huggingface.network import HfNetwork
from medseg.models.huggingface.sizes import SIZES


class HfSegformer(HfNetwork):
    """A mix transformer (``size``: b0 to b5) and a decoder of linear layers; logits come at a quarter of the image.

    See ``HfNetwork`` for arguments.

    References:
        Xie et al., SegFormer, NeurIPS 2021.
    """

    kind = "segformer"
    source = "SegformerForSemanticSegmentation"
    sizes = SIZES["segformer"]
    encoder = "segformer"
    head = "decode_head.classifier"
    settings = {"reshape_last_stage": True}

    def compute(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k y x"]:
        """Logits at a quarter of the image."""
        return self.net(image).logits
