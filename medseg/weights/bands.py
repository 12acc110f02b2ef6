"""Which channels are the same: by name, however it is spelt, and by wavelength."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from medseg.sample import Channel
from medseg.sensors.colours import COLOUR_WORDS, MSI_COLOURS
from medseg.sensors.radar import polarisation
from medseg.sensors.wavelengths import CAMERA, MSI

_ALIKE = 0.06
"""Relative difference of wavelength up to which a name means the same band.

Sensors place red, green, blue and near infrared up to 6 % apart (blue of NAIP 465 nm, of Sentinel-2 492.7 nm);
equal codes of different bands are 9 % apart or more (B1 of Sentinel-2 443 nm, of Landsat 5 485 nm)."""
_COLOURS = {word: colour for colour, words in COLOUR_WORDS.items() for word in words.split()}


def plain(name: str) -> str:
    """A name without regard to case, separators, zero padding and Landsat's ``SR_``.

    Example:
        >>> plain("B04"), plain("sr_b4"), plain("swir_1")
        ('B4', 'B4', 'SWIR1')
    """
    bare = re.sub(r"[^0-9A-Z]", "", re.sub(r"^SR_(?=B\d)", "", name.upper()))
    return re.sub(r"^B0+(?=\d)", "B", bare)


def colour(channel: Channel) -> str | None:
    """What a band sees, such as ``red`` or ``swir 1``; None if neither its name nor its code says so.

    Codes are read as Sentinel-2's, unless the wavelength says otherwise.

    Example:
        >>> colour(Channel("B04")), colour(Channel("R")), colour(Channel("B4", wavelength_nm=835.0))
        ('red', 'red', None)
    """
    bare = plain(channel.band)
    if bare in _COLOURS:
        return _COLOURS[bare]
    if bare not in MSI_COLOURS:
        return None
    agrees = channel.wavelength_nm is None or _close(channel.wavelength_nm, MSI[bare])
    return MSI_COLOURS[bare] if agrees else None


def partners(trained: Sequence[Channel], wanted: Sequence[Channel]) -> list[int | None]:
    """Place in ``trained`` of the channel that each of ``wanted`` is, by name; None where there is none.

    The same name, spelt as it may be (``VV_dB`` is ``VV``), comes before the same colour (``B04`` is ``red``). Names
    do not count where both wavelengths are known and differ by more than 6 %.

    Example:
        >>> partners([Channel("R"), Channel("G"), Channel("B")], [Channel("B02"), Channel("B08"), Channel("B04")])
        [2, None, 0]
    """
    found: list[int | None] = []
    for channel in wanted:
        agreeing = [i for i, other in enumerate(trained) if _agree(channel, other)]
        same = [i for i in agreeing if _code(trained[i].band) == _code(channel.band)]
        seen = colour(channel)
        alike = [i for i in agreeing if seen is not None and colour(trained[i]) == seen]
        found.append(next(iter(same + alike), None))
    return found


def with_wavelengths(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The channels; those of a colour photograph with wavelengths, if they have none.

    Example:
        >>> [c.wavelength_nm for c in with_wavelengths([Channel("R"), Channel("G"), Channel("B")])]
        [640.0, 550.0, 470.0]
    """
    colours = [colour(c) or "" for c in channels]
    if sorted(colours) != sorted(CAMERA) or any(c.wavelength_nm is not None for c in channels):
        return tuple(channels)
    return tuple(replace(c, wavelength_nm=CAMERA[name]) for c, name in zip(channels, colours, strict=True))


def of_sentinel2(name: str) -> Channel:
    """A channel of weights, with the wavelength of Sentinel-2 where its name is the code of one that sees the ground.

    Example:
        >>> of_sentinel2("B08").wavelength_nm, of_sentinel2("VV").wavelength_nm
        (832.8, None)
    """
    code = plain(name)
    return Channel(name, wavelength_nm=MSI[code] if code in MSI_COLOURS else None)


def _code(name: str) -> str:
    """A name as ``plain`` has it; of radar the polarisation, whatever the unit."""
    return polarisation(name) or plain(name)


def _agree(one: Channel, other: Channel) -> bool:
    if one.wavelength_nm is None or other.wavelength_nm is None:
        return True
    return _close(one.wavelength_nm, other.wavelength_nm)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= _ALIKE * max(one, other)
