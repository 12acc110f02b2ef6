"""What torchgeo's weights were trained on: bands with their wavelengths, and how their values were prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medseg.sample import Channel
from medseg.sensors.bands import band_code
from medseg.sensors.wavelengths import ADS, ETM, MSI, OLI, TM, WORLDVIEW2

_NAIP = {colour[0]: nm for colour, nm in ADS.items() if colour != "NIR"}

SENSORS: dict[str, dict[str, float]] = {
    "SENTINEL2": MSI, "SENTINEL1": {}, "LANDSAT_TM": TM, "LANDSAT_ETM": ETM, "LANDSAT": OLI, "NAIP": _NAIP,
    "FMOW": WORLDVIEW2,
}  # fmt: skip
"""Wavelength in nm by band, by what the names of weights begin with; the first that fits counts."""
_PHOTOGRAPH = 255.0


def bands(weight: Any) -> tuple[Channel, ...]:
    """Channels that weights take, in order, from torchgeo's ``meta``; red, green and blue where it lists none of three.

    Args:
        weight: A ``WeightsEnum`` of torchgeo.

    Returns:
        Names without zero padding, in capitals; wavelengths where the sensor is known. Empty if neither is told.
    """
    table = next((table for sensor, table in SENSORS.items() if weight.name.startswith(sensor)), {})
    listed = weight.meta.get("bands") or (["R", "G", "B"] if weight.meta.get("in_chans") == 3 else [])
    names = [band_code(str(name)) for name in listed]
    return tuple(Channel(name, wavelength_nm=table.get(_code(name))) for name in names)


def _code(name: str) -> str:
    """The sensor's band that a product's band is: ``SR_B4`` and ``B6_VCID_1`` are ``B4`` and ``B6``."""
    return name.removeprefix("SR_").partition("_")[0]


def _stages(transforms: object) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Mean and std of each stage of torchgeo's transforms that has them."""
    chain = transforms if hasattr(transforms, "__iter__") else [transforms]
    return [(tuple(map(float, t.mean)), tuple(map(float, t.std))) for t in chain if hasattr(t, "mean")]


def _only_divides(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether a stage divides all channels by one number, and subtracts nothing."""
    return not any(mean) and len(set(std)) == 1


def _in_words(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """What a stage does."""
    return f"minus {_listed(mean)} by {_listed(std)}" if any(mean) else f"by {_listed(std)}"


def preparation(weight: Any) -> dict[str, Any]:
    """How raw values were prepared, from the stages of torchgeo's transforms, as ``Pretrained`` tells it.

    A first stage that only divides all channels by one number, such as 255 or 10,000, is the scale. One stage
    after it (or the only one) whose means differ between channels holds statistics of the images; means from 0
    to 1 without a scale are of photographs that were divided before. Whatever else there is, such as another
    divisor for each channel, says nothing of the images and is told in words.

    Args:
        weight: A ``WeightsEnum`` of torchgeo.

    Returns:
        Values of ``mean``, ``std``, ``scale`` and ``normalisation``; none of them if values stay as they are.
    """
    stages = _stages(weight.transforms)
    told: dict[str, Any] = {}
    if stages and _only_divides(*stages[0]):
        told["scale"] = stages.pop(0)[1][0]
    if len(stages) == 1 and len(set(stages[0][0])) > 1:
        mean, std = stages[0]
        unit = 1.0 if min(mean) < 0 or max(mean) > 1 else _PHOTOGRAPH
        return {"scale": unit, **told, "mean": mean, "std": std}
    if stages:
        start = f"raw values / {told['scale']:g}" if told else "raw values"
        told["normalisation"] = ", ".join([start, *(_in_words(mean, std) for mean, std in stages)])
    return told


def _listed(values: tuple[float, ...]) -> str:
    """Numbers, one if all are equal."""
    return ", ".join(f"{v:.6g}" for v in values) if len(set(values)) > 1 else f"{values[0]:.6g}"
