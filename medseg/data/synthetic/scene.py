"""A drawn landscape, as Sentinel-2 would see it: classes that share spectra and differ in texture and shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt16
from rasterio.crs import CRS
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.spatial import KDTree

from medseg.geometry.grid import Grid

LABELS = {"water": 0, "forest": 1, "crop": 2, "soil": 3, "urban": 4, "burned": 5}
"""Class names and label values; 255 is unknown."""
COLOURS = {
    "water": (52, 120, 190),
    "forest": (24, 92, 44),
    "crop": (226, 190, 70),
    "soil": (190, 160, 130),
    "urban": (200, 60, 70),
    "burned": (70, 40, 60),
}
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
"""Of Sentinel-2, in file order."""
IGNORE_VALUE = 255
NODATA = 0

NOMINAL_SHAPE = (320, 384)
_PIXEL_M = 10.0
# Reflectance in BANDS. Woods and green crops, bare fields and soil, roofs and pale soil are nearly alike.
_SPECTRA = {
    "deep water": (0.050, 0.045, 0.030, 0.018, 0.012, 0.010),
    "turbid water": (0.075, 0.090, 0.080, 0.045, 0.018, 0.014),
    "conifers": (0.028, 0.045, 0.030, 0.230, 0.110, 0.055),
    "broadleaves": (0.032, 0.062, 0.036, 0.360, 0.180, 0.085),
    "green crop": (0.032, 0.060, 0.036, 0.340, 0.170, 0.082),
    "young crop": (0.055, 0.085, 0.075, 0.250, 0.220, 0.150),
    "ripe crop": (0.075, 0.108, 0.133, 0.260, 0.300, 0.215),
    "bare field": (0.082, 0.110, 0.138, 0.205, 0.285, 0.245),
    "dark soil": (0.060, 0.080, 0.100, 0.150, 0.220, 0.195),
    "pale soil": (0.110, 0.145, 0.185, 0.265, 0.345, 0.295),
    "roof": (0.122, 0.144, 0.170, 0.235, 0.290, 0.255),
    "asphalt": (0.080, 0.092, 0.105, 0.145, 0.190, 0.175),
    "garden": (0.050, 0.076, 0.066, 0.270, 0.200, 0.120),
    "fresh burn": (0.042, 0.052, 0.062, 0.095, 0.165, 0.170),
    "old burn": (0.058, 0.076, 0.095, 0.150, 0.230, 0.210),
}
_HAZE = np.array([0.060, 0.040, 0.026, 0.012, 0.004, 0.002])
_ZONES = ("crop", "forest", "soil", "urban", "crop", "forest", "soil", "crop")


def draw_scene(
    seed: int, number: int, shape: Sequence[int] = NOMINAL_SHAPE
) -> tuple[UInt16[np.ndarray, "c i j"], UInt8[np.ndarray, "i j"], Grid]:
    """Draw one scene, a function of its arguments alone.

    Args:
        seed: Random seed of the dataset.
        number: Number of the scene.
        shape: Average number of rows and columns.

    Returns:
        Reflectance x 10000 in ``BANDS``, ``NODATA`` beyond the edges of the swath and under clouds; label
        values of ``LABELS``, ``IGNORE_VALUE`` on some borders and beyond the swath; and their grid of
        10 m cells in a zone of UTM.
    """
    rng = np.random.default_rng([seed, number])
    size = tuple(np.round(np.asarray(shape) * rng.uniform(0.8, 1.2, 2)).astype(int).tolist())
    label, parcel, road = _lay_out(rng, size)
    reflectance = _illuminate(rng, _cover(rng, label, parcel, road), label)
    image = np.clip(np.round(reflectance * 10_000), 1, 65_535).astype(np.uint16)
    swath = _swath(rng, size)
    value = np.where(_uncertain(rng, label) | ~swath, IGNORE_VALUE, label).astype(np.uint8)
    image[:, ~swath | _clouds(rng, size)] = NODATA
    return image, value, _draw_grid(rng, size)


def _draw_grid(rng: np.random.Generator, shape: tuple[int, ...]) -> Grid:
    """North-up, with its corner on a multiple of the cell size."""
    zone, south = ((32632, 490_000), (32633, 490_000), (32735, 650_000))[rng.integers(3)]  # Europe, southern Africa
    west, north = rng.integers(30_000, 60_000) * _PIXEL_M, (south + rng.integers(70_000)) * _PIXEL_M
    affine = [[0, _PIXEL_M, west + _PIXEL_M / 2], [-_PIXEL_M, 0, north - _PIXEL_M / 2], [0, 0, 1]]
    return Grid(shape, np.array(affine), CRS.from_epsg(zone).to_wkt())


def _lay_out(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, "i j"], Int[np.ndarray, "i j"], Bool[np.ndarray, "i j"]]:
    """Class of each cell, the number of the parcel that it lies in, and whether it is a road."""
    cells = np.indices(shape).astype(float)
    wobble = 9 * np.stack([_grain(rng, shape, 12) for _ in range(2)])
    zone, seeds = _polygons(rng, cells + wobble, 75)
    kinds = np.array([LABELS[_ZONES[i % len(_ZONES)]] for i in rng.permutation(len(seeds))])
    wild = kinds[zone]

    parcel, seeds = _polygons(rng, cells, rng.uniform(17, 26), stretch=1.8)  # straight borders: not wobbled
    home = np.clip(seeds.round().astype(int), 0, np.array(shape) - 1)
    estate = wild[tuple(home.T)]
    estate[(estate == LABELS["crop"]) & (rng.random(len(estate)) < 0.12)] = LABELS["forest"]  # woodlots
    farmed = (estate[parcel] == LABELS["crop"]) | (wild == LABELS["crop"])
    label = np.where(farmed, estate[parcel], wild)

    for _ in range(rng.integers(1, 3)):
        fire = _ellipse(rng, cells, (62, 34)) + 0.28 * _grain(rng, shape, 5) + 0.25 * _grain(rng, shape, 2)
        label[(fire < 1) & (label != LABELS["urban"])] = LABELS["burned"]
    road = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(2, 4)):
        road |= _off_curve(rng, cells, 6) < 1.2
    label[road] = LABELS["urban"]
    for _ in range(rng.integers(1, 4)):
        lake = _ellipse(rng, cells, (30, 18)) + 0.3 * _grain(rng, shape, 8)
        label[lake < 1] = LABELS["water"]
    label[_off_curve(rng, cells, 16) < rng.uniform(2, 4)] = LABELS["water"]
    return label, parcel, road


def _cover(
    rng: np.random.Generator,
    label: Int[np.ndarray, "i j"],
    parcel: Int[np.ndarray, "i j"],
    road: Bool[np.ndarray, "i j"],
) -> Float[np.ndarray, "c i j"]:
    """Reflectance of the surface: what grows or stands where, and its texture."""
    shape = label.shape
    cells = np.indices(shape).astype(float)
    surface = np.zeros((len(BANDS), *shape))

    def paint(name: str, materials: Sequence[str], share: Float[np.ndarray, "i j"]) -> None:
        """``share`` from 0 to 1 leads through the materials."""
        stops = np.linspace(0, 1, len(materials))
        at = label == LABELS[name]
        for band, values in enumerate(zip(*(_SPECTRA[m] for m in materials), strict=True)):
            surface[band][at] = np.interp(share[at], stops, values)

    paint("water", ["deep water", "turbid water"], _even(_grain(rng, shape, 25)))
    paint("forest", ["conifers", "broadleaves"], _even(2 * _grain(rng, shape, 14)))
    paint("soil", ["dark soil", "bare field", "pale soil"], _even(_grain(rng, shape, 9) + 0.5 * _grain(rng, shape, 3)))
    paint("burned", ["fresh burn", "old burn"], _even(_grain(rng, shape, 7) + 0.6 * _grain(rng, shape, 1.5)))
    n = parcel.max() + 1
    paint("crop", ["green crop", "young crop", "ripe crop", "bare field"], rng.choice(4, n)[parcel] / 3)
    paint("urban", ["garden", "asphalt", "roof"], np.where(road, 0.5, _blocks(rng, cells)))

    texture = np.zeros(shape)
    crowns, rows = _grain(rng, shape, 0.9), _rows(rng, cells, parcel)
    for name, pattern in (("forest", 0.16 * crowns), ("crop", 0.07 * rows + 0.09 * rng.normal(size=n)[parcel])):
        texture = np.where(label == LABELS[name], pattern, texture)
    return surface * np.exp(texture)


def _illuminate(
    rng: np.random.Generator, surface: Float[np.ndarray, "c i j"], label: Int[np.ndarray, "i j"]
) -> Float[np.ndarray, "c i j"]:
    """What the sensor sees: slopes, sun and haze that differ between and within scenes, blur and noise."""
    shape = label.shape
    height, width = _grain(rng, shape, 11), _grain(rng, shape, 60)
    slope = np.gradient(height, axis=int(rng.integers(2)))
    shade = np.where(label == LABELS["water"], 0, 0.16 * slope / slope.std())
    gain = np.exp(rng.normal(0, 0.16) + 0.07 * width + shade)
    haze = np.clip(rng.uniform(0, 1.2) + 0.35 * _grain(rng, shape, 45), 0, None)
    scale = np.exp(rng.normal(0, 0.05, len(BANDS)))
    radiance = surface * scale[:, None, None] * gain * np.exp(-0.12 * haze) + _HAZE[:, None, None] * haze
    for band, name in enumerate(BANDS):
        radiance[band] = gaussian_filter(
            radiance[band], 1.1 if name in ("B11", "B12") else 0.55
        )  # natively 20 m and 10 m
    return radiance + rng.normal(0, 0.003, radiance.shape) + 0.015 * radiance * rng.normal(size=radiance.shape)


def _uncertain(rng: np.random.Generator, label: Int[np.ndarray, "i j"]) -> Bool[np.ndarray, "i j"]:
    """Stretches of the borders between classes, some cells wide, that nobody could label."""
    border = np.zeros(label.shape, dtype=bool)
    border[1:] |= label[1:] != label[:-1]
    border[:, 1:] |= label[:, 1:] != label[:, :-1]
    return binary_dilation(border, iterations=2) & (_grain(rng, label.shape, 15) > 1.2)


def _swath(rng: np.random.Generator, shape: tuple[int, ...]) -> Bool[np.ndarray, "i j"]:
    """Inside of up to four slanted edges."""
    inside = np.ones(shape, dtype=bool)
    for axis in _turned(np.indices(shape).astype(float), rng.uniform(-0.25, 0.25)):
        for side in (-1, 1):
            if rng.random() < 0.4:
                inside &= side * axis < rng.uniform(0.8, 1.0) * axis.max()
    return inside


def _clouds(rng: np.random.Generator, shape: tuple[int, ...]) -> Bool[np.ndarray, "i j"]:
    """A few per cent of the cells in about half of the scenes."""
    puffs = _grain(rng, shape, 13) + 0.25 * _grain(rng, shape, 3)
    return puffs > (rng.uniform(1.9, 2.4) if rng.random() < 0.5 else np.inf)


def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Float[np.ndarray, "i j"]:
    """White noise blurred to grains of this size in cells; mean 0 and variance 1, periodic."""
    down, right = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    response = np.exp(-2 * (np.pi * sigma) ** 2 * (down**2 + right**2))
    response[0, 0] = 0
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * response, s=shape)
    return noise / noise.std()


def _even(grain: Float[np.ndarray, "i j"]) -> Float[np.ndarray, "i j"]:
    """Noise squeezed into 0 to 1."""
    return 0.5 + 0.5 * np.tanh(0.9 * grain)


def _turned(cells: Float[np.ndarray, "two i j"], angle: float) -> Float[np.ndarray, "two i j"]:
    """Coordinates about the middle of the scene, along axes turned by an angle in radians."""
    row, col = cells - cells.mean(axis=(1, 2), keepdims=True)
    return np.stack([np.cos(angle) * row + np.sin(angle) * col, np.cos(angle) * col - np.sin(angle) * row])


def _polygons(
    rng: np.random.Generator, cells: Float[np.ndarray, "two i j"], spacing: float, stretch: float = 1.0
) -> tuple[Int[np.ndarray, "i j"], Float[np.ndarray, "n two"]]:
    """Voronoi polygons: the number of the nearest seed, and the seeds, about one for each square of spacing."""
    shape = cells.shape[1:]
    seeds = rng.uniform(0, 1, (max(8, round(shape[0] * shape[1] / spacing**2)), 2)) * shape
    turn = rng.uniform(0, np.pi)
    warp = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * [stretch**0.5, stretch**-0.5]
    nearest = KDTree(seeds @ warp).query(cells.reshape(2, -1).T @ warp)[1]
    return nearest.reshape(shape), seeds


def _ellipse(
    rng: np.random.Generator, cells: Float[np.ndarray, "two i j"], radii: tuple[float, float]
) -> Float[np.ndarray, "i j"]:
    """Distance from a random point, 1 on an ellipse of about these radii in cells."""
    centre = rng.uniform(-0.45, 0.45, 2) * cells.shape[1:]
    row, col = cells - cells.mean(axis=(1, 2), keepdims=True) - centre[:, None, None]
    turn, size = rng.uniform(0, np.pi), np.array(radii) * rng.uniform(0.7, 1.2, 2)
    across, along = np.cos(turn) * row + np.sin(turn) * col, np.cos(turn) * col - np.sin(turn) * row
    return np.hypot(along / size[0], across / size[1])


def _off_curve(rng: np.random.Generator, cells: Float[np.ndarray, "two i j"], swing: float) -> Float[np.ndarray, "i j"]:
    """Distance in cells from a curve that crosses the scene, winding by about ``swing`` cells."""
    across, along = _turned(cells, rng.uniform(0, np.pi))
    middle, bend = rng.uniform(-0.3, 0.3) * min(cells.shape[1:]), np.zeros_like(along)
    slope = np.zeros_like(along)
    for length in swing * np.array([20.0, 9.0, 4.0]):
        phase, height = rng.uniform(0, 2 * np.pi), swing * rng.uniform(0.5, 1) * length / (20 * swing)
        bend += height * np.sin(2 * np.pi * along / length + phase)
        slope += 2 * np.pi * height / length * np.cos(2 * np.pi * along / length + phase)
    return np.abs(across - middle - bend) / np.hypot(1, slope)


def _rows(
    rng: np.random.Generator, cells: Float[np.ndarray, "two i j"], parcel: Int[np.ndarray, "i j"]
) -> Float[np.ndarray, "i j"]:
    """Waves of 3.5 to 7 cells in a direction of each parcel's own, as rows and tracks make them."""
    n = parcel.max() + 1
    turn, length = rng.uniform(0, np.pi, n), rng.uniform(3.5, 7, n)
    wave = np.stack([np.cos(turn), np.sin(turn)]) * 2 * np.pi / length
    return np.sin((wave[:, parcel] * cells).sum(axis=0))


def _blocks(rng: np.random.Generator, cells: Float[np.ndarray, "two i j"]) -> Float[np.ndarray, "i j"]:
    """Share from garden (0) over asphalt (0.5) to roof (1): houses and gardens in blocks between streets."""
    down, right = _turned(cells, rng.uniform(0, np.pi))
    lot = np.stack([down // 3.1, right // 4.2]).astype(int)
    lot -= lot.min(axis=(1, 2), keepdims=True)
    built = rng.choice([0.0, 0.25, 0.7, 1.0], size=lot.max(axis=(1, 2)) + 1)[lot[0], lot[1]]
    street = (down % rng.uniform(9, 13) < 1.6) | (right % rng.uniform(12, 18) < 1.6)
    return np.where(street, 0.5, built)
