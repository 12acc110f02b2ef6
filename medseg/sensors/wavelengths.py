"""Wavelengths: the middle of each band of satellites and aerial cameras, in nanometres."""

from __future__ import annotations

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
