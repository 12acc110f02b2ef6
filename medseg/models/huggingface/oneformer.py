"""HfOneFormer: OneFormer of transformers, for semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.models.decoders.mask_transformer import sum_queries
from medseg.models.huggingface.network import HfNetwork, backbones
from medseg.models.network import ModelSpec

TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)
"""Numbers of "the task is semantic" in CLIP's vocabulary: start, the, task, is, seman, tic, end; zeros follow."""


class HfOneFormer(HfNetwork):
    r"""Queries conditioned on the task that attend to features of an encoder, each with a mask and a class.

    The task is always the semantic one, whose tokens are known here; no tokeniser is needed. The encoder of
    texts, which only the contrastive loss of the publication needs, is left out.

    Logits, their training and precision are those of ``HfMask2Former``. See ``HfNetwork`` for arguments; ``size``
    is ``swin_tiny``, ``convnext_large`` and so on.

    Raises:
        InputError: See ``HfNetwork``; or widths that differ, with which transformers can't compute it, or leaves
            projections untrained.

    References:
        Jain et al., OneFormer: One Transformer to Rule Universal Image Segmentation, CVPR 2023.
    """

    kind = "oneformer"
    source = "OneFormerForUniversalSegmentation"
    sizes = backbones(("swin", "convnext"))
    encoder = "model.pixel_level_module.encoder"
    head = "model.transformer_module.decoder.class_embed"
    settings = {"is_training": False}
    idle = ("criterion",)

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "auto",
        config: Mapping[str, object] | None = None,
        weights: str | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(spec, size=size, config=config, weights=weights, **loading)
        settings = self.net.config
        if not settings.conv_dim == settings.mask_dim == settings.hidden_dim:
            raise InputError(
                f"model.config: got conv_dim={settings.conv_dim}, mask_dim={settings.mask_dim} and "
                f"hidden_dim={settings.hidden_dim}, OneFormer needs them equal; set all three"
            )
        numbers = torch.zeros(1, settings.task_seq_len)
        numbers[0, : len(TASK)] = torch.tensor(TASK)
        self.task = nn.Buffer(numbers, persistent=False)

    def compute(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k y x"]:
        """Logits at a quarter of the image."""
        parts = self.net.model
        features = parts.pixel_level_module.encoder(image).feature_maps
        with torch.autocast(image.device.type, enabled=False):
            pixels = parts.pixel_level_module.decoder([f.float() for f in features])
            task = parts.task_encoder(self.task.expand(len(image), -1))
            outputs = parts.transformer_module(pixels.multi_scale_features, pixels.mask_features, task)
            return sum_queries(outputs.prediction_class, outputs.prediction_masks)
