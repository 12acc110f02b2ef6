"""Channels of scenes and images as a configuration declares them: bands, indices and formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from medseg.data.case import first_five
from medseg.data.layout.image_groups import group_of, groups_of, names_within
from medseg.data.reading.options import ReadOptions
from medseg.errors import InputError
from medseg.formats.embeddings import band_names
from medseg.sample import Channel
from medseg.sensors.bands import bands_of
from medseg.sensors.formula import Formula, index_formula

Sensor = str | Mapping[str, str] | None
"""Whose bands the channels are; of image groups also by the name of the group."""


def declared_channels(
    channels: Sequence[str | Mapping[str, str]],
    sensor: Sensor,
    wavelengths_nm: Mapping[str, float],
    reading: ReadOptions,
) -> tuple[Channel, ...]:
    """Channels of the configuration, with the wavelengths of their bands.

    A name with ``*`` stands for all bands of ``data.bands``, or of the kind of embeddings, that fit it, in their order.
    With image groups the name of a channel is that of a band with its group in front, ``pre.B4``; the sensor knows it
    by the name within the group.

    Args:
        channels: Names of bands or indices, or formulas by name.
        sensor: Whose bands they are; of image groups also a sensor for each.
        wavelengths_nm: By channel, or by band for all groups.
        reading: Options of reading.

    Raises:
        InputError: No channel, one that is named twice or without its image group, or a formula that is not valid.
    """
    entries = [
        entry
        for c in channels
        for entry in ([(name, "") for name in _expanded(c, reading)] if isinstance(c, str) else dict(c).items())
    ]
    names = [name for name, _ in entries]
    _check_names(names)
    groups = reading.image_groups
    _check_sensor(sensor, groups)
    of_names = _in_groups(names, sensor, groups)
    bands = _bands(reading, sensor) if reading.bands else tuple(of_names.values())
    declared = []
    for name, own_formula in entries:
        formula = own_formula or _formula_of(name, bands, reading)
        if formula:
            bands_used = Formula.parse(formula).names
            _check_groups(bands_used, groups)
            channel = Channel(name, formula=formula, groups=groups_of(bands_used, groups))
        else:
            _check_groups([name], groups)
            channel = of_names[name]
        nm: Any = wavelengths_nm.get(name, wavelengths_nm.get(channel.band, channel.wavelength_nm))
        declared.append(replace(channel, wavelength_nm=nm))
    _check_wavelengths(wavelengths_nm, declared)
    return tuple(declared)


def _expanded(name: str, reading: ReadOptions) -> list[str]:
    """The bands that a name with ``*`` stands for; any other name alone.

    Raises:
        InputError: No band fits, or their names are not known before files are read.
    """
    if "*" not in name:
        return [name]
    named = [band for group in reading.image_groups or ("",) for band in _bands_in(group, reading)]
    fitting = [band for band in named if fnmatchcase(band, name)]
    if not fitting:
        raise InputError(
            f"data.channels: no band fits {name}, expected one of {first_five(named) or 'data.bands, which is empty'}; "
            "name the bands one by one, or those of the files by data.bands"
        )
    return fitting


def _bands_in(group: str, reading: ReadOptions) -> list[str]:
    """Names of the bands of an image group, or of images without groups, as far as the options tell."""
    own = names_within(reading.bands, group, reading.image_groups) if group else list(reading.bands)
    kind = reading.embedding_of(group)
    own = own or list(band_names(kind) if kind else ())
    return [f"{group}.{band}" if group else band for band in own]


def _in_groups(names: Sequence[str], sensor: Sensor, groups: Sequence[str]) -> dict[str, Channel]:
    """Bands of these names with wavelength and unit, group by group, as the bands of one tell the sensor."""
    channels: dict[str, Channel] = {}
    for group in ("", *groups):
        own = [name for name in names if group_of(name, groups) == group]
        whose = sensor if isinstance(sensor, str) else (sensor or {}).get(group)
        bands = bands_of([name.removeprefix(f"{group}.") for name in own], whose)
        of_group = (group,) if group else ()
        channels |= {name: replace(band, name=name, groups=of_group) for name, band in zip(own, bands, strict=True)}
    return channels


def _bands(reading: ReadOptions, sensor: Sensor) -> tuple[Channel, ...]:
    """The bands that ``data.bands`` names, of each image group."""
    groups = reading.image_groups
    named = [f"{group}.{name}" for group in groups for name in names_within(reading.bands, group, groups)]
    return tuple(_in_groups(named if groups else list(reading.bands), sensor, groups).values())


def _formula_of(name: str, bands: Sequence[Channel], reading: ReadOptions) -> str:
    """Formula of a name that is an index and no band; with groups of one of them, or of the only one that can.

    Example:
        ``pre.NDVI`` is ``(pre.B8 - pre.B4) / (pre.B8 + pre.B4)``.
    """
    if name in reading.bands:
        return ""
    group = group_of(name, reading.image_groups)
    candidates = (group,) if group else reading.image_groups or ("",)
    own = [tuple(band for band in bands if band.groups == ((g,) if g else ())) for g in candidates]
    formulas = [formula for of_group in own if (formula := index_formula(name.removeprefix(f"{group}."), of_group))]
    return formulas[0] if len(formulas) == 1 else ""


def _check_groups(names: Sequence[str], groups: Sequence[str]) -> None:
    """Raise on the name of a band without its group, where images have groups."""
    without = [name for name in names if groups and not group_of(name, groups)]
    if without:
        raise InputError(
            f"data.channels: {', '.join(without)} without an image group, expected one of {', '.join(groups)} in "
            f"front, as in {groups[0]}.{without[0]}"
        )


def _check_sensor(sensor: Sensor, groups: Sequence[str]) -> None:
    """Raise on a sensor of a group that is none."""
    unknown = sorted(set(sensor) - set(groups)) if isinstance(sensor, Mapping) else []
    if unknown:
        raise InputError(f"data.sensor names {unknown}, the image groups of data.images are {list(groups)}")


def _check_names(names: Sequence[str]) -> None:
    """Raise without channels, and on a channel that is named twice."""
    if not names:
        raise InputError("data.channels is empty; name each band that the network sees, such as [B4, B3, B2]")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"data.channels={names}: got {repeated} more than once; leave each there once")


def _check_wavelengths(wavelengths_nm: Mapping[str, float], channels: Sequence[Channel]) -> None:
    """Raise on wavelengths of no channel."""
    unknown = sorted(set(wavelengths_nm) - {name for channel in channels for name in (channel.name, channel.band)})
    if unknown:
        raise InputError(f"data.wavelengths_nm names {unknown}, channels are {[c.name for c in channels]}")
