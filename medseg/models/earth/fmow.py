"""fMoW-Sentinel, of SatMAE and SpectralGPT: mean and std of its bands (L1C, reflectance x 10,000)."""

from __future__ import annotations

from medseg.sensors.bands import PRODUCTS

_MEAN = (
    1370.19, 1184.38, 1120.77, 1136.26, 1263.74, 1645.40, 1846.87, 1762.60, 1972.62, 582.726, 14.7711, 1732.16, 1247.92,
)  # fmt: skip
_STD = (
    633.152, 650.284, 712.125, 965.231, 948.982, 1108.07, 1258.36, 1233.15, 1364.39, 472.380, 14.3115, 1310.37, 1087.60,
)  # fmt: skip
STATISTICS = {band: (mean, std) for band, mean, std in zip(PRODUCTS["sentinel2_l1c"], _MEAN, _STD, strict=True)}
"""Mean and std by band of Sentinel-2."""
