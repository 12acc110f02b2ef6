"""Drawn fields through a year: classes that only their course tells, not any single date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import tau

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from medseg.geometry.grid import Grid

LABELS = {"grass": 0, "one_crop": 1, "two_crops": 2}
"""Class names and label values: fields that stay as green as they are, and those harvested once or twice a year."""
COLOURS = {"grass": (90, 160, 70), "one_crop": (226, 190, 70), "two_crops": (150, 80, 160)}
BANDS = ("B4", "B8", "B11")
"""Of Sentinel-2, in file order."""
NODATA = 0

_SOIL, _LEAVES = np.array([0.16, 0.22, 0.30]), np.array([0.04, 0.42, 0.16])  # reflectance in BANDS
_PIXEL_M = 10.0
_FIELD = 11  # cells across
_YEAR = 365


@dataclass(frozen=True)
class Series:
    """One drawn case.

    Attributes:
        days: Days of the observed dates, since 1970-01-01.
        images: Reflectance x 10000 in ``BANDS`` of each, ``NODATA`` under clouds.
        label: Values of ``LABELS``.
        grid: Grid of 10 m cells in UTM.
    """

    days: tuple[int, ...]
    images: UInt16[np.ndarray, "n c i j"]
    label: UInt8[np.ndarray, "i j"]
    grid: Grid


def draw_series(seed: int, number: int, shape: Sequence[int], dates: int) -> Series:
    """Draw one case, a function of its arguments alone.

    The green of a field is a cosine of 0, 1 or 2 cycles a year (grass, one crop, two crops) of random phase. On
    each single day the green of all classes is therefore distributed alike. The light differs from date to date,
    clouds hide parts of some, and one in eight dates is missing; so is the same day in other years.

    Args:
        seed: Random seed of the dataset.
        number: Number of the case.
        shape: Rows and columns.
        dates: In a year without gaps.
    """
    rng = np.random.default_rng([seed, number, 5])
    cells = np.indices(shape).reshape(2, -1).T
    corners = rng.uniform(0, 1, (max(6, round(shape[0] * shape[1] / _FIELD**2)), 2)) * shape
    field = KDTree(corners).query(cells)[1].reshape(shape)
    kind = rng.permutation(np.arange(len(corners)) % len(LABELS))
    phase, texture = rng.random(len(corners)), 0.05 * rng.normal(size=shape)
    first = (date(2018 + int(rng.integers(4)), 1, 1) - date(1970, 1, 1)).days
    nominal = (np.arange(dates) + 0.5) * _YEAR / dates
    days = np.round(nominal + rng.uniform(-0.2, 0.2, dates) * _YEAR / dates).astype(int)
    there = rng.random(dates) >= 1 / 8
    there[rng.integers(dates)] = True
    images = []
    for day in days[there].tolist():
        green = 0.5 + 0.4 * np.cos(tau * (phase + kind * day / _YEAR))[field] + texture
        images.append(_seen(rng, green))
    label = np.array(list(LABELS.values()), np.uint8)[kind][field]
    return Series(tuple(first + day for day in days[there].tolist()), np.stack(images), label, _grid(number, shape))


def _seen(rng: np.random.Generator, green: Float[np.ndarray, "i j"]) -> UInt16[np.ndarray, "c i j"]:
    """What the sensor sees on one date of fields that are green to these shares."""
    surface = _SOIL[:, None, None] + (_LEAVES - _SOIL)[:, None, None] * green
    light = np.exp(rng.normal(0, 0.08))
    noisy = surface * light + rng.normal(0, 0.004, surface.shape)
    image = np.clip(np.round(noisy * 10_000), 1, 65_535).astype(np.uint16)
    image[:, _clouds(rng, green.shape)] = NODATA
    return image


def _clouds(rng: np.random.Generator, shape: tuple[int, ...]) -> Bool[np.ndarray, "i j"]:
    """A tenth of the cells or so on every third date."""
    puffs = gaussian_filter(rng.normal(size=shape), 6, mode="wrap")
    return puffs > (np.quantile(puffs, 0.9) if rng.random() < 1 / 3 else np.inf)


def _grid(number: int, shape: Sequence[int]) -> Grid:
    """North-up, each case at a place of its own."""
    west, north = 400_000 + 20_000 * number, 5_200_000
    affine = [[0, _PIXEL_M, west + _PIXEL_M / 2], [-_PIXEL_M, 0, north - _PIXEL_M / 2], [0, 0, 1]]
    return Grid(tuple(shape), np.array(affine), CRS.from_epsg(32632).to_wkt())
