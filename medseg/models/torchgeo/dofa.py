"""Dofa: a vision transformer whose first kernels are made from the wavelengths of the data's channels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torchgeo.models.dofa import DOFA, position_embedding

from medseg.models.encoders.vit import Size, fill_with_sines
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.spectrum import generated_patches, wavelengths_nm
from medseg.models.torchgeo.vit import TorchgeoViT

RADAR_NM = 5405.0
"""What stands for Sentinel-1 in DOFA's weights: its 5.405 GHz, fed as micrometres."""


class Dofa(TorchgeoViT):
    """DOFA: takes any channels whose wavelength is known; 2D only.

    The first kernels come from a small transformer over the wavelengths, so that there is nothing to fit to
    other channels. Radar channels (``VV``, ``VH``, ...) have the number that stands for them in the weights.
    Positions are resampled to the image.

    The weights were trained on standardised channels, with statistics of each sensor.

    Args:
        spec: Data and plan.
        size: ``small``, ``base``, ``large`` or ``huge``. torchgeo has weights of base and large.
        settings: See ``TorchgeoViT``; ``adapt`` has no effect here.

    Raises:
        InputError: Volumes, a channel without wavelength, or an unknown size.

    References:
        Xiong et al., Neural Plasticity-Inspired Foundation Model for Observing the Earth Crossing Modalities, 2024.
    """

    family = "dofa"
    sizes = {
        "small": Size(384, 12, 6), "base": Size(768, 12, 12), "large": Size(1024, 24, 16), "huge": Size(1280, 32, 16),
    }  # fmt: skip
    published = {"base": "DOFABase16_Weights.DOFA_MAE", "large": "DOFALarge16_Weights.DOFA_MAE"}
    preparation = "channels standardised, with statistics of each sensor"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        **settings: Any,
    ) -> None:
        patch = 14 if size == "huge" else 16
        super().__init__(spec, size=size, patch=patch, **settings)
        waves = torch.tensor(wavelengths_nm(self.channels, "dofa", radar_nm=RADAR_NM))
        self.net = DOFA(
            patch_size=patch,
            num_classes=0,
            **self.shape._asdict(),
        )
        self.net.fc_norm = nn.Identity()  # of the pooled image; the published weights have none
        self.spectrum: list[list[float]] = position_embedding(self.net.dynamic_embed_dim, waves).tolist()
        fill_with_sines(self.net.pos_embed)

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token and one for each patch."""
        net = self.net
        patches = generated_patches(net.patch_embed, self.spectrum, image)
        tokens = torch.cat((net.cls_token.expand(len(image), -1, -1), patches), dim=1)
        return tokens + resample_abs_pos_embed(net.pos_embed, self.grid(image))
