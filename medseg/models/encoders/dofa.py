"""Dofa: a vision transformer whose first kernels are made from the wavelengths of the data's channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torchgeo.models.dofa import DOFA, position_embedding

from medseg.models.encoders.plain import Plain, Size, fill_with_sines, sized
from medseg.models.encoders.spectrum import generated_patches, wavelengths_nm
from medseg.models.encoders.torchgeo_weights import fetch_published
from medseg.models.network import Facts
from medseg.weights.pretrained import Pretrained

SIZES = {
    "small": Size(384, 12, 6), "base": Size(768, 12, 12), "large": Size(1024, 24, 16), "huge": Size(1280, 32, 16),
}  # fmt: skip
PUBLISHED = {"base": "DOFABase16_Weights.DOFA_MAE", "large": "DOFALarge16_Weights.DOFA_MAE"}
RADAR_NM = 5405.0
"""What stands for Sentinel-1 in DOFA's weights: its 5.405 GHz, fed as micrometres."""


class Dofa(Plain):
    """DOFA: takes any channels whose wavelength is known; 2D only.

    The first kernels come from a small transformer over the wavelengths, so that there is nothing to fit to
    other channels. Radar channels (``VV``, ``VH``, ...) have the number that stands for them in the weights.
    Positions are resampled to the image.

    The weights were trained on standardised channels, with statistics of each sensor.

    Args:
        facts: Data and plan.
        size: ``small``, ``base``, ``large`` or ``huge``. Published are base and large.
        embed_dim: Numbers in a token instead of the size's.
        depth: Blocks, likewise.
        num_heads: Heads of attention, likewise.
        indices: Blocks after which features are taken; None for four evenly spaced.
        weights: See ``Encoder``; ``pretrained`` are torchgeo's.
        adapt: Without effect here.
        least_share: See ``Encoder``.

    Raises:
        BadInput: Volumes, a channel without wavelength, or an unknown size.

    References:
        Xiong et al., Neural Plasticity-Inspired Foundation Model for Observing the Earth Crossing Modalities, 2024.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        size: str = "base",
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        indices: Sequence[int] | None = None,
        weights: str | None = None,
        adapt: str = "auto",
        least_share: float = 0.9,
    ) -> None:
        chosen = sized(SIZES, size, embed_dim, depth, num_heads)
        patch = 14 if size == "huge" else 16
        super().__init__(
            facts,
            name="dofa",
            width=chosen.embed_dim,
            depth=chosen.depth,
            patch=patch,
            indices=indices,
            weights=weights,
            adapt=adapt,
            least_share=least_share,
        )
        self.size = size
        waves = torch.tensor(wavelengths_nm(self.channels, "dofa", radar_nm=RADAR_NM))
        self.net = DOFA(
            patch_size=patch,
            embed_dim=chosen.embed_dim,
            depth=self.depths[-1] + 1,
            num_heads=chosen.num_heads,
            num_classes=0,
        )
        self.net.fc_norm = nn.Identity()  # of the pooled image; the published weights have none
        self.spectrum: list[list[float]] = position_embedding(self.net.dynamic_embed_dim, waves).tolist()
        fill_with_sines(self.net.pos_embed)

    @property
    def trunk(self) -> nn.Module:
        """The ``DOFA`` of torchgeo, without its head."""
        return self.net

    @property
    def stem(self) -> str | None:
        """None: kernels are made for the channels."""
        return None

    def fetch(self, source: str) -> Pretrained:
        """A file, or torchgeo's weights."""
        return fetch_published(source, PUBLISHED, self.size, "channels standardised, with statistics of each sensor")

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token and one for each patch."""
        net = self.net
        patches = generated_patches(net.patch_embed, self.spectrum, image)
        tokens = torch.cat((net.cls_token.expand(len(image), -1, -1), patches), dim=1)
        return tokens + resample_abs_pos_embed(net.pos_embed, self.grid(image))
