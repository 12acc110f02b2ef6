"""Names of bands by what they measure; needs no torch, as pictures are drawn without it."""

from __future__ import annotations

COLOUR_WORDS = {
    "red": "R RED", "green": "G GREEN", "blue": "B BLUE", "nir": "N NIR NIRBROAD", "coastal": "COASTAL COASTALAEROSOL",
    "nir narrow": "NIRNARROW NIR08 NARROWNIR", "swir 1": "SWIR1 SWIR16", "swir 2": "SWIR2 SWIR22",
    "red edge 1": "REDEDGE1 RE1", "red edge 2": "REDEDGE2 RE2", "red edge 3": "REDEDGE3 RE3",
}  # fmt: skip
"""Names of bands of any sensor by what they measure, in capitals without separators."""
MSI_COLOURS = {
    "B1": "coastal", "B2": "blue", "B3": "green", "B4": "red", "B5": "red edge 1", "B6": "red edge 2",
    "B7": "red edge 3", "B8": "nir", "B8A": "nir narrow", "B11": "swir 1", "B12": "swir 2",
}  # fmt: skip
"""What each band of Sentinel-2 measures, as a key of ``COLOUR_WORDS``; bands of the atmosphere have none."""
