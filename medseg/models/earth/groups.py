"""Groups of bands that share a token, and which channels of the data belong to which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.radar import polarisation
from medseg.weights.bands import partners

_FAR = 0.3
"""Relative difference of wavelength up to which a band without a name in common belongs to the nearest one's group.

B10 of Sentinel-2 is 15 % away from B11; thermal bands are several times away from any other."""


@dataclass(frozen=True)
class Group:
    """Bands that share a token.

    Attributes:
        name: Of the upstream.
        channels: Bands in the order of the published kernel, with wavelengths where they have some.
        mean: Of each band in the images of the pretraining, in raw values.
        std: Standard deviation of each band in them.
    """

    name: str
    channels: tuple[Channel, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def group(name: str, channels: Sequence[Channel], statistics: Mapping[str, tuple[float, float]]) -> Group:
    """A group with the mean and std of each of its bands, from a table of them."""
    mean, std = zip(*(statistics[channel.name] for channel in channels), strict=True)
    return Group(name, tuple(channels), mean, std)


def assign(groups: Sequence[Group], channels: Sequence[Channel], family: str) -> dict[str, tuple[int, ...]]:
    """Places of the channels of each group; groups without any are left out.

    A channel belongs to the group of the band of the same name or colour, else (radar) of any radar band, else of
    the band of the nearest wavelength.

    Args:
        groups: Of the encoder.
        channels: Of the data, or of a file.
        family: Name of the encoder, for messages.

    Raises:
        InputError: A channel of which the encoder has no kind.

    Example:
        >>> groups = [Group("S1", (Channel("VV"), Channel("VH"))), Group("RGB", (Channel("B4"), Channel("B3")))]
        >>> assign(groups, [Channel("red"), Channel("VH_dB"), Channel("HH")], "galileo")
        {'S1': (1, 2), 'RGB': (0,)}
    """
    trained = list(chain.from_iterable(g.channels for g in groups))
    owners = [g.name for g in groups for _ in g.channels]
    places: dict[str, tuple[int, ...]] = {g.name: () for g in groups}
    for place, band in enumerate(bands_like(trained, channels, family)):
        places[owners[band]] += (place,)
    return {name: own for name, own in places.items() if own}


def bands_like(trained: Sequence[Channel], channels: Sequence[Channel], family: str) -> list[int]:
    """Place in ``trained`` of the band that each channel is, or is most like.

    Raises:
        InputError: One is like none.
    """
    same = partners(trained, channels)
    bands = [_nearest(trained, c) if i is None else i for i, c in zip(same, channels, strict=True)]
    unknown = [c.name for i, c in zip(bands, channels, strict=True) if i is None]
    if unknown:
        names = ", ".join(dict.fromkeys(c.name for c in trained))
        raise InputError(
            f"encoder {family} has no kind of token for {', '.join(unknown)}; it takes {names}, bands of similar "
            "wavelength and radar: name the sensor (data.sensor=sentinel2) or leave the channel out"
        )
    return [i for i in bands if i is not None]


def of_groups(groups: Sequence[Group], names: Sequence[str]) -> Group:
    """All bands of some of the groups as one, in order."""
    used = [g for g in groups if g.name in names]
    channels, mean, std = (tuple(chain.from_iterable(getattr(g, k) for g in used)) for k in ("channels", "mean", "std"))
    return replace(used[0], channels=channels, mean=mean, std=std)


def _nearest(trained: Sequence[Channel], channel: Channel) -> int | None:
    """The band of the nearest wavelength, or any of radar; None if there is none that is similar."""
    if polarisation(channel.band):
        return next((i for i, other in enumerate(trained) if polarisation(other.band)), None)
    nm = channel.wavelength_nm
    if nm is None:
        return None
    gaps = [(abs(c.wavelength_nm - nm) / c.wavelength_nm, i) for i, c in enumerate(trained) if c.wavelength_nm]
    gap, i = min(gaps, default=(2 * _FAR, 0))
    return i if gap <= _FAR else None
