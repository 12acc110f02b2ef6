"""CopernicusFm: like DOFA, with bandwidths beside wavelengths; may be told place, date and area of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torchgeo.models.copernicusfm import CopernicusFM

from medseg.errors import InputError
from medseg.models.encoders.vit import Size, fill_with_sines
from medseg.models.network import ModelSpec
from medseg.models.torchgeo.spectrum import generated_patches, wavelengths_nm
from medseg.models.torchgeo.vit import TorchgeoViT
from medseg.sample import Channel
from medseg.sensors.radar import polarisation
from medseg.sensors.wavelengths import MSI_SPECIFIED

RADAR_NM, RADAR_BANDWIDTH_NM = 5e7, 1e9
"""What stands for Sentinel-1 in the weights."""
_OPTICAL_NM = (350.0, 2600.0)


class CopernicusFm(TorchgeoViT):
    """Copernicus-FM: takes any channels whose wavelength is known; 2D only.

    The first kernels come from a small transformer over wavelengths and bandwidths, so that there is nothing to
    fit to other channels. Radar channels (``VV``, ``VH``, ...) have the numbers that stand for Sentinel-1 in the
    weights. Data does not tell bandwidths: unless ``bandwidths_nm`` does, optical channels get that of
    Sentinel-2's nearest band. Positions are resampled to the image. Variables described by language (of
    Sentinel-5P and elevation), which the network can take too, are not supported.

    Place, date and area are added to every token; what is unknown has an embedding of its own. They hold for all
    images, since a batch does not carry them.

    Args:
        spec: Data and plan.
        size: ``base``, which is published, ``small`` or ``large``.
        bandwidths_nm: Of each channel, in nanometres; None for those told above.
        place: Longitude and latitude of all images, in degrees; None if unknown.
        day: Days since 1970-01-01; None if unknown.
        cell_m: Cells on the ground, in metres, for the area of a patch; None if unknown.
        settings: See ``TorchgeoViT``; ``adapt`` has no effect here.

    Raises:
        InputError: Volumes, a channel without wavelength or bandwidth, or an unknown size.

    References:
        Wang et al., Towards a Unified Copernicus Foundation Model for Earth Vision, 2025.
    """

    family = "copernicus_fm"
    sizes = {"small": Size(384, 12, 6), "base": Size(768, 12, 12), "large": Size(1024, 24, 16)}
    published = {"base": "CopernicusFM_Base_Weights.CopernicusFM_ViT"}
    preparation = "channels standardised, with statistics of each sensor"

    def __init__(
        self,
        spec: ModelSpec,
        *,
        size: str = "base",
        bandwidths_nm: Sequence[float] | None = None,
        place: Sequence[float] | None = None,
        day: float | None = None,
        cell_m: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(spec, size=size, **settings)
        waves = wavelengths_nm(self.channels, "copernicus_fm", radar_nm=RADAR_NM)
        widths = bandwidths(self.channels, bandwidths_nm)
        self.net = CopernicusFM(num_classes=0, **self.shape._asdict())
        self.net.fc_norm = nn.Identity()  # of the pooled image; the published weights have none
        del self.net.patch_embed_variable
        embedding = self.net.patch_embed_spectral
        spectrum = embedding.spectrum_central_expansion(torch.tensor(waves), embedding.hyper_dim)
        spectrum = spectrum + embedding.spectrum_bandwidth_expansion(torch.tensor(widths), embedding.hyper_dim)
        self.spectrum: list[list[float]] = spectrum.tolist()
        self.context = self._context(place, day, cell_m)
        fill_with_sines(self.net.pos_embed)

    def _context(
        self, place: Sequence[float] | None, day: float | None, cell_m: float | None
    ) -> dict[str, list[float] | None]:
        """Encoding of what is known of place, area and date, by the network's name for it; None of what is not.

        The tokens that stand for what is unknown are frozen where it is known: nothing would train them.
        """
        net, width = self.net, self.net.cls_token.shape[-1]
        known: dict[str, Tensor | None] = {"coord": None, "scale": None, "time": None}
        if place is not None:
            _check_place(place)
            longitude, latitude = (torch.tensor([float(degrees)]) for degrees in place)
            known["coord"] = net.get_coord_pos_embed(longitude, latitude, width)
        if cell_m is not None:
            area_km2 = (self.divisor[0] * cell_m / 1000) ** 2
            if not net.scale_expansion.lower <= area_km2 <= net.scale_expansion.upper:
                raise InputError(
                    f"model.encoder.cell_m={cell_m:g}: got patches of {area_km2:g} km², the network tells areas from "
                    f"{net.scale_expansion.lower:g} km² (cells of 2 m); leave it null, for unknown"
                )
            known["scale"] = net.get_area_pos_embed(torch.tensor([area_km2]), width)
        if day is not None:
            known["time"] = net.get_time_pos_embed(torch.tensor([float(day)]), width)
        for name, value in known.items():
            net.get_parameter(f"{name}_token").requires_grad_(value is None)
        return {name: None if value is None else value.flatten().tolist() for name, value in known.items()}

    def embed(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """The class token and one for each patch."""
        net = self.net
        patches = generated_patches(net.patch_embed_spectral, self.spectrum, image)
        tokens = torch.cat((net.cls_token.expand(len(image), -1, -1), patches), dim=1)
        tokens = tokens + resample_abs_pos_embed(net.pos_embed, self.grid(image))
        for name, known in self.context.items():
            token: Tensor = getattr(net, f"{name}_token")
            told = token if known is None else token.new_tensor(known).view_as(token)
            tokens = tokens + net.get_submodule(f"{name}_fc")(told)
        return tokens


def bandwidths(channels: Sequence[Channel], given: Sequence[float] | None) -> tuple[float, ...]:
    """Bandwidth of each channel, in nanometres.

    Args:
        channels: Of the data; all optical ones have a wavelength.
        given: As set; None for Sentinel-2's nearest band, and what stands for radar.

    Raises:
        InputError: As many were not given as there are channels, or values that the network can't tell; or none was
            given, and a channel is not of visible or infrared light up to 2600 nm.

    Example:
        >>> bandwidths([Channel("R", wavelength_nm=655.0), Channel("VV")], None)
        (30.0, 1000000000.0)
    """
    if given is None:
        return tuple(_usual_bandwidth(channel) for channel in channels)
    if len(given) != len(channels):
        raise InputError(f"model.encoder.bandwidths_nm={list(given)}: expected one of each of {len(channels)} channels")
    if not all(1 <= width <= RADAR_BANDWIDTH_NM for width in given):
        raise InputError(f"model.encoder.bandwidths_nm={list(given)}: expected each from 1 to 1e9")
    return tuple(float(width) for width in given)


def _usual_bandwidth(channel: Channel) -> float:
    """Of radar, or of the band of Sentinel-2 next to the wavelength, in nm."""
    low, high = _OPTICAL_NM
    at = channel.wavelength_nm
    if at is None and polarisation(channel.band):
        return RADAR_BANDWIDTH_NM
    if at is not None and low <= at <= high:
        return float(min(MSI_SPECIFIED.values(), key=lambda band: abs(band[0] - at))[1])
    raise InputError(
        f"encoder copernicus_fm: channel {channel.name} at {at} nm has no bandwidth; give "
        f"model.encoder.bandwidths_nm, one of each channel"
    )


def _check_place(place: Sequence[float]) -> None:
    """Raise unless it is a longitude and a latitude."""
    if len(place) != 2 or not (-180 <= place[0] <= 180 and -90 <= place[1] <= 90):
        raise InputError(f"model.encoder.place={list(place)}: expected longitude and then latitude, in degrees")
