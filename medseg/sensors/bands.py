"""Sensors: what the names of satellite and aerial bands mean.

Which raw value means which reflectance differs between products of one sensor, so optical bands have no
unit here; radar bands have one where their name says it (``VV_dB``, ``VH_linear``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from medseg.errors import InputError
from medseg.sample import Channel
from medseg.sensors.radar import radar_unit
from medseg.sensors.wavelengths import ADS, ETM, MSI, OLI, RANGES, TM

_MSI_COLOURS = {
    "COASTAL": "B1", "BLUE": "B2", "GREEN": "B3", "RED": "B4", "REDEDGE1": "B5", "REDEDGE2": "B6", "REDEDGE3": "B7",
    "NIR": "B8", "NIR08": "B8A", "SWIR1": "B11", "SWIR16": "B11", "SWIR2": "B12", "SWIR22": "B12",
    "TCI_R": "B4", "TCI_G": "B3", "TCI_B": "B2",
}  # fmt: skip
_OLI_COLOURS = {
    "COASTAL": "B1", "BLUE": "B2", "GREEN": "B3", "RED": "B4", "NIR": "B5", "NIR08": "B5", "SWIR1": "B6",
    "SWIR16": "B6", "SWIR2": "B7", "SWIR22": "B7",
}  # fmt: skip
_TM_COLOURS = {"BLUE": "B1", "GREEN": "B2", "RED": "B3", "NIR": "B4", "SWIR1": "B5", "SWIR2": "B7"}
_LETTERS = {"R": "RED", "G": "GREEN", "B": "BLUE", "N": "NIR"}


def _names(bands: dict[str, float], colours: dict[str, str], collection: str = "") -> dict[str, float]:
    """Wavelength by every name of a sensor; ``collection`` lists bands of Landsat's SR_ and ST_ products."""
    products = {f"{'ST' if bands[name] > 3000 else 'SR'}_{name}": bands[name] for name in collection.split()}
    named = {**bands, **products, **{colour: bands[band] for colour, band in colours.items()}}
    return {**named, **{letter: named[colour] for letter, colour in _LETTERS.items()}}


_LANDSAT_8 = _names(OLI, _OLI_COLOURS, "B1 B2 B3 B4 B5 B6 B7 B10")
_SENSORS: dict[str, dict[str, float]] = {
    "sentinel-1": {},  # C band, 55 mm: no optical wavelength
    "sentinel-2": _names(MSI, _MSI_COLOURS),
    "landsat-5": _names(TM, _TM_COLOURS, "B1 B2 B3 B4 B5 B6 B7"),
    "landsat-7": _names(ETM, _TM_COLOURS, "B1 B2 B3 B4 B5 B6 B7"),
    "landsat-8": _LANDSAT_8,
    "landsat-9": _LANDSAT_8,
    "hlsl30": _names({name: nm for name, nm in OLI.items() if name != "B8"}, _OLI_COLOURS),
    "hlss30": _names(MSI, _MSI_COLOURS),
    "naip": _names(ADS, {}),
}
SENSORS = tuple(_SENSORS)
"""Sensors that ``bands_of`` knows."""

PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "sentinel2_l1c": tuple(MSI),
    "sentinel2_l2a": tuple(band for band in MSI if band != "B10"),
    "sentinel1": ("VV", "VH"),
}
"""All bands of a product, in the order in which weights take them that are trained on all (SSL4EO-S12, DeCUR)."""

_CODE = re.compile(r"((SR|ST)_)?B\d+[A-Z]?|TCI_[RGB]")


def bands_of(names: Sequence[str], sensor: str | None = None) -> tuple[Channel, ...]:
    """Channels of these names, with wavelength and unit where they are known for certain.

    Names count without regard to case and zero padding (``B08`` is ``B8``), and keep their spelling. Known
    are the band codes of each sensor, Landsat's ``SR_B1`` to ``ST_B10``, the colours (``RED`` or ``R``,
    ``NIR``, ``SWIR16``, ...), ``TCI_R`` of Sentinel-2's 8-bit pictures, and ``VV``, ``VH``, ``HV``, ``HH`` of
    radar. Any other name is allowed and has no wavelength.

    Without a sensor, it is guessed from the band codes as a whole: ``B8A`` or ``B12`` can only be
    Sentinel-2. Where several sensors would fit and differ, no band has a wavelength: ``B8`` alone is near
    infrared in Sentinel-2 and panchromatic in Landsat. Colours alone never tell a sensor, so that the R,
    G, B of a photograph have none.

    Args:
        names: Bands of a file, in order.
        sensor: One of ``SENSORS``, also as ``S2`` or ``Landsat 8``.

    Raises:
        InputError: The sensor is not known, or a name comes twice.

    Example:
        >>> [band.wavelength_nm for band in bands_of(["B08", "B12", "DEM"])]
        [832.8, 2202.4, None]
        >>> [bands_of(["B8"], sensor)[0].wavelength_nm for sensor in ("sentinel-2", "landsat-8", None)]
        [832.8, 589.5, None]
    """
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise InputError(f"bands {repeated} come twice in {list(names)}; a band needs a name of its own")
    table = _guess(names) if sensor is None else _SENSORS[_sensor(sensor)]
    return tuple(Channel(name, unit=radar_unit(name), wavelength_nm=table.get(band_code(name))) for name in names)


def role_of(channel: Channel) -> str | None:
    """Broad part of the spectrum that a band measures: BLUE, GREEN, RED, NIR, SWIR1 or SWIR2.

    None for bands between them (coastal, red edge, panchromatic, thermal) and without a wavelength, for
    computed channels, and for ``TCI_R`` and its kin, whose stretched 8-bit values compare with no other band.

    Example:
        >>> role_of(Channel("B8", wavelength_nm=832.8)), role_of(Channel("B5", wavelength_nm=704.1))
        ('NIR', None)
    """
    if channel.wavelength_nm is None or channel.formula or channel.band.upper().startswith("TCI"):
        return None
    return next((role for role, (_, low, high) in RANGES.items() if low <= channel.wavelength_nm <= high), None)


def roles(channels: Sequence[Channel]) -> dict[str, str]:
    """Name of the channel that plays each role; of several the one nearest to the typical wavelength.

    Example:
        >>> roles(bands_of(["B4", "B8", "B8A"]))
        {'RED': 'B4', 'NIR': 'B8'}
    """
    by_role: dict[str, Channel] = {}
    for channel in channels:
        role = role_of(channel)
        if role and (role not in by_role or _distance(channel, role) < _distance(by_role[role], role)):
            by_role[role] = channel
    return {role: channel.name for role, channel in by_role.items()}


def _distance(channel: Channel, role: str) -> float:
    return abs((channel.wavelength_nm or 0.0) - RANGES[role].typical)


def band_code(name: str) -> str:
    """A name in upper case, band codes in it without zero padding.

    Example:
        >>> band_code("b08"), band_code("SR_B04"), band_code("SUB01")
        ('B8', 'SR_B4', 'SUB01')
    """
    return re.sub(r"(?<![0-9A-Z])B0+(?=\d)", "B", name.upper())


def _sensor(sensor: str) -> str:
    """Key of ``_SENSORS``; hyphens, blanks and case do not matter, S2 and L8 are short forms."""
    asked = re.sub(r"[^a-z0-9]", "", sensor.lower())
    asked = re.sub(r"^s(?=\d)", "sentinel", re.sub(r"^l(?=\d)", "landsat", asked))
    for name in _SENSORS:
        if name.replace("-", "") == asked:
            return name
    raise InputError(f"sensor {sensor!r} is not known, expected one of {', '.join(SENSORS)}; or leave it out (null)")


def _guess(names: Sequence[str]) -> dict[str, float]:
    """Table of the only sensor (or of sensors that agree) to know every band code; empty if there is none."""
    plain = [band_code(name) for name in names]
    codes = [name for name in plain if _CODE.fullmatch(name)]
    fitting = [table for table in _SENSORS.values() if codes and table.keys() >= {*codes}]
    return fitting[0] if fitting and _agree(fitting, plain) else {}


def _agree(tables: Sequence[Mapping[str, float]], names: Sequence[str]) -> bool:
    """Whether all tables have the same wavelengths of these bands."""
    first, *others = ([table.get(name) for name in names] for table in tables)
    return all(other == first for other in others)
