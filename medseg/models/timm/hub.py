"""Names, tags and weights of timm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import timm

from medseg.errors import InputError, nearest
from medseg.sample import Channel
from medseg.weights import hub
from medseg.weights.nested import weights_in
from medseg.weights.pretrained import Pretrained, read

_RGB = (Channel("R", wavelength_nm=640.0), Channel("G", wavelength_nm=550.0), Channel("B", wavelength_nm=470.0))
"""Channels of photographs, with the wavelengths at which their filters transmit most."""
_PHOTOGRAPH = 255.0
"""Largest value in a file of a photograph; timm's networks scale it to 1."""


def check_name(name: str) -> None:
    """Raise on a network that timm does not have, or on an unknown tag of its weights.

    Raises:
        InputError: Names the nearest networks, or the tags that there are.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models())
        raise InputError(f"model.encoder.name={name} is no network of timm; {hint}")
    if tag and f"{architecture}.{tag}" not in (names := _tagged(architecture)):
        hint = f"there are {', '.join(names)}" if names else "it has no weights; leave the tag out"
        raise InputError(f"model.encoder.name={name}: {architecture} has no weights tagged {tag}; {hint}")


def _tagged(architecture: str) -> list[str]:
    """Names with the tags of all weights of a network."""
    names: list[str] = timm.list_pretrained(f"{architecture}.*")
    return names


def fetch(name: str) -> Pretrained:
    """The weights that timm has under a name, from the cache or downloaded, and the images they are for.

    Args:
        name: Name of a network, for its default weights; or network and tag.

    Raises:
        InputError: There are none, or they are not in the cache and can't be downloaded.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        names = _tagged(name.partition(".")[0])
        hint = f"choose model.encoder.name={names[0]}" if names else "give a file instead, model.encoder.weights=FILE"
        raise InputError(f"model.encoder.weights=pretrained: timm has no weights of {name}; {hint}")
    pretrained = _from_hub(config) if config.hf_hub_id else _from_address(config.url)
    return replace(
        pretrained,
        channels=_RGB if config.input_size[0] == len(_RGB) else (),
        mean=tuple(config.mean),
        std=tuple(config.std),
        scale=_PHOTOGRAPH,
    )


def _from_hub(config: Any) -> Pretrained:
    """Weights on the hub of Hugging Face, which has most of timm's."""
    return read(hub.PREFIX + config.hf_hub_id + (f"/{config.hf_hub_filename}" if config.hf_hub_filename else ""))


def _from_address(url: str) -> Pretrained:
    """Weights at the authors' own address; nothing in the file is executed.

    Raises:
        InputError: They can't be downloaded.
    """
    from torch.hub import load_state_dict_from_url

    try:
        state = load_state_dict_from_url(url, map_location="cpu", weights_only=True, progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"model.encoder.weights=pretrained: {url} can't be downloaded ({type(error).__name__}); fetch the file "
            f"where there is a network, and give it by model.encoder.weights=FILE"
        ) from error
    return Pretrained(weights_in(state, url, None), url)
