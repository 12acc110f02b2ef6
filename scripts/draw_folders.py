"""Draw the three folders that the tutorials begin with: abdomen, wetland and cities with an encoder's file.

python scripts/draw_folders.py FOLDER

They stand for folders of a user's own: small enough for a minute of training, drawn as the package's phantoms are,
and laid out as docs/tutorials shows them. The encoder holds random tensors under timm's names: what is loaded and how
is the same as with published weights, what it brings is nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import shapes

from medseg import formats
from medseg.data.synthetic.phantom_volumes import draw_case
from medseg.data.synthetic.scene import BANDS, IGNORE_VALUE, LABELS, NODATA, draw_scene
from medseg.geometry.grid import Grid

CELL_M = 10.0
UTM = CRS.from_epsg(32633).to_wkt()
ENCODER = "vit_tiny_patch16_224"


def draw_abdomen(folder: Path, *, n_cases: int = 15, n_new: int = 3, shape: Sequence[int] = (24, 28, 20)) -> None:
    """``images/`` and ``labels/`` of the same names, and ``new/`` with the like, which no training sees."""
    for number in range(1, n_cases + n_new + 1):
        image, label, grid = draw_case(17, number, shape)
        part = folder if number <= n_cases else folder / "new"
        for name, cells in (("images", image), ("labels", label)):
            (part / name).mkdir(parents=True, exist_ok=True)
            formats.write(part / name / f"patient_{number:03d}.nii.gz", cells, grid)


def draw_wetland(folder: Path, *, n_tiles: int = 10, n_new: int = 2, shape: Sequence[int] = (200, 240)) -> None:
    """``images/`` and ``new/`` of tiles, and ``habitats.gpkg`` with polygons over all of them.

    Polygons keep a cell away from each other, as outlines drawn by hand do: what lies between has no label.
    """
    outlines, names = [], []
    for number in range(1, n_tiles + n_new + 1):
        image, label, grid = _tile(number, shape)
        part = folder / ("images" if number <= n_tiles else "new")
        part.mkdir(parents=True, exist_ok=True)
        formats.write_image(part / f"tile_{number:02d}.tif", image, grid, names=BANDS, nodata=NODATA)
        for outline, name in _outlines(label, grid):
            outlines.append(outline)
            names.append(name)
    pyogrio.raw.write(
        folder / "habitats.gpkg",
        shapely.to_wkb(np.array(outlines, dtype=object)),
        [np.array(names, dtype=object)],
        ["class"],
        driver="GPKG",
        geometry_type="MultiPolygon",
        crs=UTM,
    )


def draw_cities(folder: Path, *, n_scenes: int = 12, n_new: int = 2, shape: Sequence[int] = (160, 192)) -> None:
    """``images/`` and ``masks/`` of the same names, and ``new/`` with the like, which no training sees."""
    for number in range(1, n_scenes + n_new + 1):
        image, label, grid = draw_scene(29, number, shape)
        part = folder if number <= n_scenes else folder / "new"
        for name in ("images", "masks"):
            (part / name).mkdir(parents=True, exist_ok=True)
        formats.write_image(part / "images" / f"scene_{number:02d}.tif", image, grid, names=BANDS, nodata=NODATA)
        formats.write(part / "masks" / f"scene_{number:02d}.tif", label, grid)


def write_encoder(path: Path) -> None:
    """An encoder as timm stores it: random tensors, three channels, a head of 1000 classes."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model(ENCODER).state_dict(), path)


def _tile(number: int, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Tiles of one zone of UTM, one east of the other."""
    image, label, grid = draw_scene(23, number, shape)
    west, north = 400_000 + 5_000 * number, 5_900_000
    affine = np.array([[0, CELL_M, west + CELL_M / 2], [-CELL_M, 0, north - CELL_M / 2], [0, 0, 1]])
    return image, label, Grid(grid.shape, affine, UTM)


def _outlines(label: np.ndarray, grid: Grid) -> list[tuple[shapely.Geometry, str]]:
    """Polygons of the connected areas of a tile, and their classes."""
    names = {value: name for name, value in LABELS.items()}
    west, north = grid.affine[0, 2] - CELL_M / 2, grid.affine[1, 2] + CELL_M / 2
    transform, found = Affine(CELL_M, 0, west, 0, -CELL_M, north), []
    for outline, value in shapes(label, mask=label != IGNORE_VALUE, transform=transform):
        drawn = shapely.Polygon(outline["coordinates"][0], outline["coordinates"][1:]).buffer(-CELL_M)
        if drawn.area > 20 * CELL_M**2:
            found.append((shapely.multipolygons(shapely.get_parts(drawn)), names[int(value)]))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where abdomen, wetland, cities and encoder.safetensors are drawn")
    folder = parser.parse_args(arguments).folder
    draw_abdomen(folder / "abdomen")
    draw_wetland(folder / "wetland")
    draw_cities(folder / "cities")
    write_encoder(folder / "encoder.safetensors")


if __name__ == "__main__":
    main()
