"""What timm has: names, tags, and weights that it downloads."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import timm

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.weights import hub
from medseg.weights.nested import weights_in
from medseg.weights.pretrained import Pretrained, read

_RGB = (Channel("R", wavelength_nm=640.0), Channel("G", wavelength_nm=550.0), Channel("B", wavelength_nm=470.0))
"""Of photographs, with the wavelengths at which their filters are most open."""
_PHOTOGRAPH = 255.0
"""The largest value of a photograph's file, which is 1 to the networks of timm."""


def check_name(name: str) -> None:
    """Refuse a network that timm does not have, or weights of it that it does not know.

    Raises:
        InputError: Names the nearest networks, or the tags that there are.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.0)
        raise InputError(f"model.encoder.name={name} is no network of timm; the nearest are {', '.join(near)}")
    if tag and f"{architecture}.{tag}" not in (known := _tagged(architecture)):
        told = f"there are {', '.join(known)}" if known else "it has no weights; leave the tag out"
        raise InputError(f"model.encoder.name={name}: {architecture} has no weights tagged {tag}; {told}")


def _tagged(architecture: str) -> list[str]:
    names: list[str] = timm.list_pretrained(f"{architecture}.*")
    return names


def fetch(name: str) -> Pretrained:
    """The weights that timm has under a name, from the cache or downloaded, and the images they are for.

    Args:
        name: A network, for the first of its weights; or network and tag.

    Raises:
        InputError: There are none, or they are not in the cache and can't be downloaded.
    """
    told = timm.get_pretrained_cfg(name)
    if told is None or not told.has_weights:
        known = _tagged(name.partition(".")[0])
        way = f"choose model.encoder.name={known[0]}" if known else "give a file instead, model.encoder.weights=FILE"
        raise InputError(f"model.encoder.weights=pretrained: timm has no weights of {name}; {way}")
    found = _from_hub(told) if told.hf_hub_id else _from_address(told.url)
    return replace(
        found,
        channels=_RGB if told.input_size[0] == len(_RGB) else (),
        mean=tuple(told.mean),
        std=tuple(told.std),
        scale=_PHOTOGRAPH,
    )


def _from_hub(told: Any) -> Pretrained:
    """From the hub of Hugging Face, where timm keeps most."""
    return read(hub.PREFIX + told.hf_hub_id + (f"/{told.hf_hub_filename}" if told.hf_hub_filename else ""))


def _from_address(url: str) -> Pretrained:
    """From where the authors keep them; nothing in the file is executed.

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
