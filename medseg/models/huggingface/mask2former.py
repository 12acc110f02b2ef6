"""HfMask2Former: Mask2Former of transformers, for semantic segmentation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.models.decoders.mask_transformer import sum_queries
from medseg.models.huggingface.network import HfNetwork, backbones


class HfMask2Former(HfNetwork):
    r"""Queries that attend to features of a Swin Transformer, and each find a mask and a class.

    Logits are :math:`\log \sum_q p_q(c) m_q(s)`, as in the publication's semantic inference; see
    ``decoders.mask_transformer.sum_queries``. They come at a quarter of the image.

    **The ordinary losses of medseg train this sum**: queries are not matched to the segments of an image, and
    layers before the last have no losses of their own, as they had in the publication. Weights that were trained
    so are taken as they are.

    Encoder parts run in the precision of the training. Pixel decoder and queries are computed in float32, on
    every device: queries attend to the cells where their mask is above a threshold, which half precision moves
    (measured on random weights of four small networks in bfloat16 on a CPU: logits off by 5 to 10 % of their
    spread, instead of 0.5 to 4 %).

    See ``HfNetwork`` for arguments; ``size`` is ``swin_tiny`` and so on.

    References:
        Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation, CVPR 2022.
    """

    kind = "mask2former"
    source = "Mask2FormerForUniversalSegmentation"
    sizes = backbones(("swin",))
    encoder = "model.pixel_level_module.encoder"
    head = "class_predictor"
    idle = ("criterion",)

    def compute(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k y x"]:
        """Logits at a quarter of the image."""
        parts = self.net.model
        features = parts.pixel_level_module.encoder(image).feature_maps
        with torch.autocast(image.device.type, enabled=False):
            pixels = parts.pixel_level_module.decoder([f.float() for f in features])
            outputs = parts.transformer_module(pixels.multi_scale_features, pixels.mask_features)
            classes = self.net.class_predictor(outputs.intermediate_hidden_states[-1].transpose(0, 1))
            return sum_queries(classes, outputs.masks_queries_logits[-1])
