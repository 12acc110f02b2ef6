"""Scenes drawn for the tests of formats."""

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 465180, 0, -10, 5080250)

TRANSFORMS = {
    "north_up": NORTH_UP,
    "south_up": Affine(10, 0, 465180, 0, 10, 5070250),
    "rotated": Affine(8, 3, 465180.5, 3, -8, 5080250.25),
    "not_square": Affine(9.99479222007154, 0, 465181.0522318204, 0, -19.997448467363668, 5080254.63349641),
    "mirrored": Affine(-10, 0, 475180, 0, -10, 5080250),
}


def save(path, bands, *, transform=NORTH_UP, crs=UTM, names=(), mask=None, scales=None, offsets=None, **options):
    """Write a scene by rasterio alone; bands ``[c, h, w]``."""
    settings = {"driver": "GTiff", "crs": crs, **({} if transform is None else {"transform": transform})}
    height, width = bands.shape[1:]
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", height=height, width=width, count=len(bands), dtype=bands.dtype, **settings, **options
        ) as scene,
    ):
        scene.write(bands)
        for band, name in enumerate(names, start=1):
            scene.set_band_description(band, name)
        if mask is not None:
            scene.write_mask(mask)
        if scales is not None:
            scene.scales, scene.offsets = scales, offsets
    return path


def noise(shape, dtype=np.uint16, seed=3):
    """Cells without symmetry, all greater than 0."""
    return np.random.default_rng(seed).integers(1, 250, size=shape).astype(dtype)
