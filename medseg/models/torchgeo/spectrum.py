"""What encoders that read the spectrum need of channels: wavelengths, and kernels made from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.radar import polarisation


def wavelengths_nm(channels: Sequence[Channel], family: str, *, radar_nm: float) -> tuple[float, ...]:
    """Wavelength of each channel, in nanometres.

    Args:
        channels: Of the data.
        family: Of the encoder, for messages.
        radar_nm: What stands for radar channels in the weights of the family.

    Raises:
        InputError: A channel that is neither radar nor has a wavelength.

    Example:
        >>> wavelengths_nm([Channel("B2", wavelength_nm=492.7), Channel("VV")], "dofa", radar_nm=5405.0)
        (492.7, 5405.0)
    """
    unknown = [c.name for c in channels if c.wavelength_nm is None and not polarisation(c.band)]
    if unknown:
        raise InputError(
            f"encoder {family} reads the wavelength of every channel, but {', '.join(unknown)} has none; name the "
            f"sensor (data.sensor=sentinel2), give data.wavelengths_nm={{{unknown[0]}: 560}}, or leave the channel out"
        )
    return tuple(radar_nm if c.wavelength_nm is None else c.wavelength_nm for c in channels)


def generated_patches(
    embedding: Any, spectrum: Sequence[Sequence[float]], image: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b n d"]:
    """Tokens of an image by kernels that a small transformer makes from the spectrum of its channels.

    It is what the embeddings of DOFA and Copernicus-FM do once wavelengths are encoded. torchgeo encodes them
    in every pass, which needs values and so can't run on the meta device; for one set of channels the encoding
    is constant.

    Args:
        embedding: torchgeo's ``DOFAEmbedding`` or ``DynamicPatchEmbed``.
        spectrum: Encoding of each channel.
        image: Its sides are multiples of the patch.
    """
    dtype = embedding.fclayer.w1.weight.dtype
    waves = embedding.fclayer(torch.tensor(spectrum, device=image.device, dtype=dtype))
    weight, bias = embedding.weight_generator(waves)
    size, width = embedding.kernel_size, embedding.embed_dim
    kernel = weight.view(len(spectrum), size, size, width).permute(3, 0, 1, 2) * embedding.scaler
    # the padding, which shifts patches by a cell, is how the weights were trained
    patches = functional.conv2d(image, kernel, bias.view(width) * embedding.scaler, stride=size, padding=1)
    return patches.flatten(2).transpose(1, 2)
