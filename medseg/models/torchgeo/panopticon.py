"""Panopticon: a vision transformer whose tokens attend to the channels of their patch, each with its wavelength."""

from __future__ import annotations

from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torchgeo.models.panopticon import PanopticonPE, get_1d_sincos_pos_embed_from_grid_torch

from medseg.errors import InputError
from medseg.models.encoders.vit import Size
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.spectrum import wavelengths_nm
from medseg.models.torchgeo.vit import TorchgeoViT
from medseg.sensors.radar import polarisation

GRID = 37
"""Places of the published positions on each axis: DINOv2's, of 518 cells."""
_WAVES = {"V": 0, "H": 1}
_ORBITS = {None: slice(None), "ascending": slice(0, 1), "descending": slice(1, 2)}


class Panopticon(TorchgeoViT):
    """Panopticon: takes any optical and radar channels together; 2D only.

    Each channel of a patch becomes a token with an embedding of its wavelength (radar: of the polarisation sent
    and received, and of the orbit); one query gathers them into the patch's token. What follows is DINOv2's
    ViT. Memory grows with channels times patches times ``attn_dim``. Positions are resampled to the image.

    The weights were trained on channels standardised by dataset.

    Args:
        spec: Data and plan.
        size: ``base``.
        orbit: Of the radar channels: ``ascending``, ``descending``; None if unknown or mixed.
        attn_dim: Numbers in a channel's token; a multiple of 16.
        settings: See ``TorchgeoViT``; ``adapt`` has no effect here. Each feature is normalised by the last layer.

    Raises:
        InputError: Volumes, a channel without wavelength, an unknown size or orbit.

    References:
        Waldmann et al., Panopticon: Advancing Any-Sensor Foundation Models for Earth Observation, 2025.
    """

    family = "panopticon"
    sizes = {"base": Size(768, 12, 12)}
    published = {"base": "Panopticon_Weights.VIT_BASE14"}
    preparation = "channels standardised, with statistics of each dataset"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        orbit: str | None = None,
        attn_dim: int = 2304,
        **settings: Any,
    ) -> None:
        if orbit not in _ORBITS:
            raise InputError(f"model.encoder.orbit={orbit}: expected ascending, descending or null")
        super().__init__(spec, size=size, patch=14, **settings)
        self.orbit = _ORBITS[orbit]
        waves = torch.tensor(wavelengths_nm(self.channels, "panopticon", radar_nm=0.0)).floor()  # whole nm, as trained
        self.sines: list[list[float]] = get_1d_sincos_pos_embed_from_grid_torch(attn_dim, waves).tolist()
        self.net = _build(self.shape, attn_dim)
        if not any(polarisation(c.band) for c in self.channels):
            self.net.patch_embed.chnfus.chnemb = nn.Identity()  # of radar: nothing would train it

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token and one for each patch."""
        net = self.net
        gather = net.patch_embed.chnfus
        parts, *_ = net.patch_embed.conv3d(image)  # [b, c, n, d]
        parts = parts + self._channel_embeddings(image.device)[:, None]
        places = parts.transpose(1, 2).flatten(0, 1)
        gathered = gather.xattn(gather.query.expand(len(places), -1, -1), places, places)
        patches = net.patch_embed.proj(gathered.reshape(len(image), -1, gathered.shape[-1]))
        tokens = torch.cat((net.cls_token.expand(len(image), -1, -1), patches), dim=1)
        return tokens + resample_abs_pos_embed(net.pos_embed, self.grid(image))

    def _channel_embeddings(self, device: torch.device) -> Float[Tensor, "c d"]:
        """Of each channel: sines of its wavelength, or what was learned of its polarisation and orbit."""
        gather = self.net.patch_embed.chnfus
        rows = []
        for channel, sines in zip(self.channels, self.sines, strict=True):
            waves = polarisation(channel.band)
            if channel.wavelength_nm is None and waves:
                sent, received = (_WAVES[wave] for wave in waves)
                learned = gather.chnemb
                orbit = learned.embed_orbit[self.orbit].mean(dim=0)
                rows.append(torch.cat((learned.embed_transmit[sent], learned.embed_receive[received], orbit)))
            else:
                rows.append(torch.tensor(sines, device=device, dtype=gather.query.dtype))
        return torch.stack(rows)

    def finish(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Normalised by the last layer."""
        return self.net.norm(tokens)


def _build(size: Size, attn_dim: int) -> object:
    """What torchgeo's ``Panopticon`` holds, which has one size; put together from the same parts."""
    net = timm.create_model(
        "vit_base_patch14_dinov2",
        img_size=14 * GRID,
        num_classes=0,
        **size._asdict(),
    )
    net.patch_embed = PanopticonPE(
        attn_dim=attn_dim,
        embed_dim=size.embed_dim,
        patch_size=14,
        img_size=14 * GRID,
        chnfus_cfg={"attn_cfg": {"num_heads": 16}},
    )
    return net
