"""Terratorch's registry: its backbones by name, built for the channels of the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

from torch import nn

from medseg.errors import InputError, nearest
from medseg.sample import Channel
from medseg.sensors.colours import MSI_COLOURS
from medseg.sensors.radar import polarisation
from medseg.sensors.wavelengths import MSI
from medseg.weights.bands import colour, plain

_PREFIX = "terratorch_"
"""Of the source in the registry whose names need none."""
_ELSEWHERE = {"terramind": "terramind", "timm_": "timm"}
"""Families with an encoder of their own here, by what their names begin with."""
_NAMES = {"coastal": "COASTAL_AEROSOL", "nir": "NIR_BROAD"}
_ATMOSPHERE = {"B9": "WATER_VAPOR", "B10": "CIRRUS"}
_WEIGHTS = ("ckpt_path", "ckpt_data", "pretrained", "weights")
"""Settings by which terratorch loads weights itself."""
_ALIKE = 0.06
"""Relative difference of wavelengths up to which bands are the same; see ``weights.bands``."""


def constructor(name: str) -> Callable[..., nn.Module]:
    """What builds a backbone of the registry.

    Raises:
        InputError: terratorch is not installed; no such backbone, or one of a family with an encoder of its own.
    """
    try:
        from terratorch.registry import BACKBONE_REGISTRY
    except ImportError as error:
        raise InputError("model/encoder=terratorch needs terratorch: pip install 'medseg[terratorch]'") from error
    for start, option in _ELSEWHERE.items():
        if name.removeprefix(_PREFIX).startswith(start):
            raise InputError(f"model.encoder.name={name}: an encoder of its own, choose model/encoder={option}")
    if name not in BACKBONE_REGISTRY:
        known = [key.removeprefix(_PREFIX) for key in BACKBONE_REGISTRY if not key.startswith(tuple(_ELSEWHERE))]
        raise InputError(f"model.encoder.name={name} is no backbone of terratorch; {nearest(name, known)}")
    made: Callable[..., nn.Module] = BACKBONE_REGISTRY.find_class(name)
    return made


def build(name: str, channels: Sequence[Channel], settings: Mapping[str, object], **further: object) -> nn.Module:
    """A backbone for some channels.

    Args:
        name: In the registry.
        channels: Of the image; given by terratorch's names where the backbone asks for bands, else by their number.
        settings: Further arguments of the constructor; they override our own.
        further: Arguments of ours, such as ``pretrained``.

    Raises:
        InputError: Settings that load weights, or that the constructor does not take; see ``constructor``.
    """
    for key in _WEIGHTS:
        if settings.get(key):
            raise InputError(
                f"model.encoder.settings.{key}: terratorch would load weights that nothing accounts for; set "
                f"model.encoder.weights=FILE or pretrained instead"
            )
    made = constructor(name)
    asked = inspect.signature(made).parameters
    takes: dict[str, Any] = {key: [band(c) for c in channels] for key in ("bands", "model_bands") if key in asked}
    if not takes:
        takes = {"in_channels" if "in_channels" in asked else "in_chans": len(channels)}
    try:
        net = made(**{**takes, **further, **settings})
    except (TypeError, ValueError, AssertionError, KeyError, AttributeError) as error:
        raise InputError(
            f"model.encoder.name={name} can't be built with model.encoder.settings={dict(settings)}: {error}"
        ) from error
    if isinstance(vars(net).get("forward"), FunctionType) and hasattr(net, "forward_features"):
        if "out_indices" in settings:
            raise InputError(f"model.encoder.settings.out_indices: of {name}, set model.encoder.indices instead")
        # the patched function is bound to this very network: a copy would run the original
        vars(net)["forward"] = net.forward_features
    return net


def band(channel: Channel) -> str:
    """The name that terratorch has for a band; the channel's own where it has none.

    Example:
        >>> [band(Channel(name)) for name in ("B02", "B8A", "NIR", "VH_dB", "DEM")]
        ['BLUE', 'NIR_NARROW', 'NIR_BROAD', 'VH', 'DEM']
        >>> band(Channel("SR_B5", wavelength_nm=864.7))
        'NIR_NARROW'
    """
    if waves := polarisation(channel.band):
        return "".join(waves)
    nm, code = channel.wavelength_nm, plain(channel.band)
    seen = colour(channel)
    if seen is None and nm is not None:
        code = min(MSI, key=lambda other: abs(MSI[other] - nm))
        if abs(MSI[code] - nm) > _ALIKE * nm:
            return channel.band
        seen = MSI_COLOURS.get(code)
    if seen is None:
        return _ATMOSPHERE.get(code, channel.band)
    return _NAMES.get(seen, seen.upper().replace(" ", "_"))
