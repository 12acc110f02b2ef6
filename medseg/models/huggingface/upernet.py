"""HfUperNet: UPerNet of transformers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from medseg.models.huggingface.network import HfNetwork, backbones
from medseg.models.network import refuse_lone_cell


class HfUperNet(HfNetwork):
    """A pyramid of features, pooled to several scales at its end; encoders ConvNeXt, Swin and others of stages.

    The auxiliary head of the publication is left out. The pooled features are normalised over the batch, so that
    training takes two images or more. See ``HfNetwork`` for arguments; ``size`` is ``convnext_tiny``,
    ``swin_base`` and so on.

    References:
        Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018.
    """

    kind = "upernet"
    source = "UperNetForSemanticSegmentation"
    sizes = backbones(("convnext", "swin", "convnextv2", "swinv2", "resnet"))
    encoder = "backbone"
    head = "decode_head.classifier"
    settings = {"use_auxiliary_head": False}

    def compute(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k y x"]:
        """Logits at the resolution of the image.

        Raises:
            InputError: In training, a batch of one image.
        """
        with refuse_lone_cell("HfUperNet", image.shape[2:]):
            return self.net(image).logits
