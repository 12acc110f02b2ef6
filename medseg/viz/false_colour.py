"""Composites: an image of any channels as the red, green and blue of a screen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped, UInt8

from medseg.sensors.colours import COLOUR_WORDS
from medseg.sensors.wavelengths import RANGES

NO_DATA = 40
"""Grey of cells that are not valid: darker than any of an image below labels (see ``panels``)."""
LARGEST = 1200
"""Cells a side that a picture has at most."""

_NAMES = {
    "swir2": {*COLOUR_WORDS["swir 2"].split()},
    "nir": {*COLOUR_WORDS["nir"].split(), *COLOUR_WORDS["nir narrow"].split()},
    **{colour: {*COLOUR_WORDS[colour].split(), f"TCI{colour[0].upper()}"} for colour in ("red", "green", "blue")},
}
_TRUE_COLOUR = ("red", "green", "blue")
_COMPOSITES = (("swir2", "nir", "red"), ("nir", "red", "green"), _TRUE_COLOUR)
_NAMELESS = re.compile(r"(band|channel|b|c)?\d*")
_ENOUGH = 1_000_000  # cells that percentiles are taken of


@runtime_checkable
class Band(Protocol):
    """What is asked of a channel; ``Channel`` is one."""

    @property
    def name(self) -> str:
        """Such as ``B8`` or ``red``."""
        ...

    @property
    def wavelength_nm(self) -> float | None:
        """Centre wavelength in nanometres, None if there is none."""
        ...


class Named(NamedTuple):
    """A channel with a name only."""

    name: str
    wavelength_nm: float | None = None


def composite(
    image: Num[np.ndarray, "c *s"], channels: Sequence[Band] = (), valid: Bool[np.ndarray, " *s"] | None = None
) -> UInt8[np.ndarray, "*s 3"]:
    """The image in the colours of a screen.

    Of what the channels are (by wavelength, else by name: ``red``, ``R``, ``nir``, ``VV`` …), the first
    that is there:

    - SWIR at 2.2 µm, near infrared, red: burned areas are dark red, vegetation is green, water black;
    - near infrared, red, green: vegetation is red;
    - red, green, blue: true colour. So are three channels without telling names;
    - two polarisations of a radar: co-polarised, cross-polarised, and their ratio (their difference in
      decibels, of which most are negative);
    - of other channels with three wavelengths or more: the longest, a middle and the shortest one, as red, green
      and blue;
    - the first channel in grey.

    Each band is stretched between its 2nd and 98th percentile over the valid cells. True colour of
    8 bits (whole numbers from 0 to 255) is shown as it is.

    Args:
        image: Raw or normalised values.
        channels: What the channels are; empty if unknown.
        valid: False where there is no data; it is grey (``NO_DATA``), as where a shown value is not finite.
    """
    kind, indices = _choose(channels, len(image))
    bands = image[indices].astype(np.float32)
    shown = np.asarray(np.isfinite(bands).all(axis=0))
    if valid is not None:
        shown &= valid
    if kind == "radar":
        bands = np.stack([*bands, _ratio(bands, shown)])
    if kind != "true colour" or not _of_8_bits(bands, shown):
        bands = np.stack([255 * stretched(band, shown) for band in bands])
    grey_or_rgb = np.broadcast_to(np.where(shown, bands, NO_DATA).astype(np.uint8), (3, *shown.shape))
    return np.ascontiguousarray(np.moveaxis(grey_or_rgb, 0, -1))


def stretched(
    band: Num[np.ndarray, " *s"], shown: Bool[np.ndarray, " *s"], low: float = 2, high: float = 98
) -> Float[np.ndarray, " *s"]:
    """Values scaled to [0, 1] between two percentiles of the cells ``shown``; 0 elsewhere.

    Large arrays are sampled regularly.
    """
    cells = band[shown]
    if not cells.size:
        return np.zeros(band.shape, dtype=np.float32)
    bottom, top = np.percentile(cells[:: max(1, cells.size // _ENOUGH)], [low, high])
    scaled = (np.where(shown, band, bottom) - bottom) / max(top - bottom, 1e-12)
    return np.clip(scaled, 0, 1).astype(np.float32)


def reduced(array: Shaped[np.ndarray, "..."], ndim: int = 2) -> Shaped[np.ndarray, "..."]:
    """Every n-th cell along the last ``ndim`` axes, so that no side exceeds ``LARGEST`` (a view).

    The nearest cell, for images as for labels, so that both stay aligned.
    """
    places: tuple[Any, ...] = (..., *[slice(None, None, reduction(array.shape[-ndim:]))] * ndim)
    return array[places]


def reduction(shape: Sequence[int]) -> int:
    """Which n ``reduced`` takes every n-th cell by, for an array of this shape."""
    return -(-max(shape) // LARGEST)


def _choose(channels: Sequence[Any], n: int) -> tuple[str, list[int]]:
    """Kind of composite, and its channels."""
    if len(channels) != n:
        channels = [Named("")] * n
    return _coloured(channels) or _unnamed_rgb(channels) or _radar(channels) or _spread(channels) or ("grey", [0])


def _coloured(channels: Sequence[Any]) -> tuple[str, list[int]] | None:
    """The first of the usual composites whose bands all exist."""
    for colours in _COMPOSITES:
        indices = [index for colour in colours if (index := _find(channels, colour)) is not None]
        if len(indices) == len(colours):
            return "true colour" if colours == _TRUE_COLOUR else "false colour", indices
    return None


def _unnamed_rgb(channels: Sequence[Any]) -> tuple[str, list[int]] | None:
    """Three channels without wavelength and name."""
    nameless = [c.wavelength_nm is None and _NAMELESS.fullmatch(_letters(c.name)) for c in channels]
    return ("true colour", [0, 1, 2]) if len(nameless) == 3 and all(nameless) else None


def _radar(channels: Sequence[Any]) -> tuple[str, list[int]] | None:
    """Two polarisations of radar."""
    for pair in (("VV", "VH"), ("HH", "HV")):
        indices = [next((i for i, c in enumerate(channels) if _polarised(c.name, p)), -1) for p in pair]
        if min(indices) >= 0:
            return "radar", indices
    return None


def _spread(channels: Sequence[Any]) -> tuple[str, list[int]] | None:
    """The longest, the median and the shortest of three wavelengths or more."""
    by_wavelength = sorted((c.wavelength_nm, i) for i, c in enumerate(channels) if c.wavelength_nm is not None)
    if len(by_wavelength) < 3:
        return None
    return "false colour", [by_wavelength[at][1] for at in (-1, len(by_wavelength) // 2, 0)]


def _find(channels: Sequence[Any], colour: str) -> int | None:
    """The channel whose wavelength is nearest to the middle of a colour; without wavelength, by name."""
    typical, low, high = RANGES[colour.upper()]
    near = [
        (abs(c.wavelength_nm - typical), i)
        for i, c in enumerate(channels)
        if c.wavelength_nm is not None and low <= c.wavelength_nm <= high
    ]
    if near:
        return min(near)[1]
    named = [
        i for i, c in enumerate(channels) if c.wavelength_nm is None and _letters(c.name).upper() in _NAMES[colour]
    ]
    return named[0] if named else None


def _letters(name: str) -> str:
    """Letters and digits of a band's name, without the image group in front."""
    return re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())


def _polarised(name: str, polarisation: str) -> bool:
    return re.search(rf"(?<![A-Z]){polarisation}(?![A-Z])", name.upper()) is not None


def _ratio(bands: Float[np.ndarray, "2 *s"], shown: Bool[np.ndarray, " *s"]) -> Float[np.ndarray, " *s"]:
    first, second = bands
    if (first[shown] < 0).any():
        return first - second
    return np.divide(first, second, out=np.zeros_like(first), where=second > 0)


def _of_8_bits(bands: Float[np.ndarray, "c *s"], shown: Bool[np.ndarray, " *s"]) -> bool:
    cells = bands[:, shown]
    return bool(cells.size and cells.min() >= 0 and cells.max() <= 255 and (cells == np.round(cells)).all())
