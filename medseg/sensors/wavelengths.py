"""Wavelengths of bands of satellites and cameras, in nanometres: the only table of them in the package.

The middle of each band, by the code or the colour that its sensor gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Sentinel-2A (2B and 2C differ by up to 17 nm), from ESA's SentiWiki.
MSI = {
    "B1": 442.7, "B2": 492.7, "B3": 559.8, "B4": 664.6, "B5": 704.1, "B6": 740.5, "B7": 782.8, "B8": 832.8,
    "B8A": 864.7, "B9": 945.1, "B10": 1373.5, "B11": 1613.7, "B12": 2202.4,
}  # fmt: skip
# Landsat 8 (9 is its copy): Barsi et al., The spectral response of the Landsat-8 OLI, 2014; B10 and B11 are thermal.
OLI = {
    "B1": 443.0, "B2": 482.0, "B3": 561.4, "B4": 654.6, "B5": 864.7, "B6": 1608.9, "B7": 2200.7, "B8": 589.5,
    "B9": 1373.4, "B10": 10895.0, "B11": 12005.0,
}  # fmt: skip
# Landsat 7 and 5: middles of the nominal ranges (USGS).
ETM = {"B1": 485.0, "B2": 560.0, "B3": 660.0, "B4": 835.0, "B5": 1650.0, "B6": 11450.0, "B7": 2220.0, "B8": 710.0}
TM = {"B1": 485.0, "B2": 560.0, "B3": 660.0, "B4": 830.0, "B5": 1650.0, "B6": 11450.0, "B7": 2215.0}
# NAIP: middles of the ranges of a Leica ADS100, the camera of most years; others differ by some 20 nm.
ADS = {"RED": 635.0, "GREEN": 555.0, "BLUE": 465.0, "NIR": 845.0}
# WorldView-2: middles of the nominal ranges; fMoW has images of similar sensors too.
WORLDVIEW2 = {"R": 660.0, "G": 545.0, "B": 480.0}
# Photographs: middles of the filters of common cameras.
CAMERA = {"red": 640.0, "green": 550.0, "blue": 470.0}

MSI_SPECIFIED = {
    "B1": (440, 20), "B2": (490, 65), "B3": (560, 35), "B4": (665, 30), "B5": (705, 15), "B6": (740, 15),
    "B7": (783, 20), "B8": (842, 115), "B8A": (860, 20), "B9": (940, 20), "B10": (1370, 30), "B11": (1610, 90),
    "B12": (2190, 180),
}  # fmt: skip
"""Middle and width of Sentinel-2's bands in round numbers, on which Copernicus-FM was trained."""


class Range(NamedTuple):
    """A part of the spectrum: its typical, lowest and highest wavelength in nanometres."""

    typical: float
    low: float
    high: float


RANGES: Mapping[str, Range] = {
    "BLUE": Range(480, 450, 520),
    "GREEN": Range(560, 520, 580),
    "RED": Range(660, 620, 690),
    "NIR": Range(840, 790, 900),
    "SWIR1": Range(1610, 1550, 1700),
    "SWIR2": Range(2200, 2080, 2350),
}
"""The broad bands in which spectral indices and composites are written.

Limits of Landsat TM's bands, narrowed so that a middle inside them is a band of that name on every sensor of the table:
green ends before Landsat 8's panchromatic band (589.5), near infrared begins after Sentinel-2's last red edge (782.8),
blue begins after the coastal bands (443).
"""
