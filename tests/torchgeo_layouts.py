"""Tiny datasets in the layouts in which LoveDA, LandCover.ai, Potsdam, L8 Biome and Sen1Floods11 are published.

Written by PIL and rasterio, not by the package. What is drawn is a function of the case's name.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

SHAPE = (48, 40)
POTSDAM_COLOURS = np.array(
    [[255, 0, 0], [255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0]], np.uint8
)


def drawn(name: str, values: Sequence[int], n_bands: int, dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a case: a stripe for each value, as bright as its place in the list."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    stripe = np.sort(rng.integers(0, len(values), SHAPE[1]))
    label = np.broadcast_to(np.array(values)[stripe], SHAPE)
    image = 20 + 30 * stripe + rng.normal(0, 5, (n_bands, *SHAPE))
    return image.clip(1, 255).astype(dtype), label


def save_picture(path: Path, cells: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(cells)).save(path)


def save_raster(
    path: Path,
    bands: np.ndarray,
    *,
    epsg: int | None,
    corner: tuple[float, float] = (0, 0),
    cell: float = 1,
    **more: Any,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": f"EPSG:{epsg}", "transform": Affine(cell, 0, corner[0], 0, -cell, corner[1])} if epsg else {}
    count, height, width = bands.shape
    shape = {"height": height, "width": width, "count": count, "dtype": bands.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **place, **more) as scene:
            scene.write(bands)


def loveda(root: Path) -> list[str]:
    cases = {"Train/Rural": ["0", "1"], "Train/Urban": ["1366"], "Val/Rural": ["2522"], "Val/Urban": ["3514"]}
    for folder, names in (cases | {"Test/Rural": ["4191"], "Test/Urban": ["5167"]}).items():
        for name in names:
            image, label = drawn(name, range(8), 3)
            save_picture(root / folder / "images_png" / f"{name}.png", np.moveaxis(image, 0, -1))
            if not folder.startswith("Test"):
                save_picture(root / folder / "masks_png" / f"{name}.png", label.astype(np.uint8))
    return [f"data.root={root}"]


LANDCOVER = ["M-33-20-D-c-4-2", "M-34-51-C-b-2-1", "N-33-60-D-c-4-2"]


def landcoverai(root: Path) -> list[str]:
    for number, name in enumerate(LANDCOVER):
        image, label = drawn(name, range(5), 3)
        place: dict[str, Any] = {
            "epsg": 2180,
            "corner": (370000 + 5000 * number, 390000),
            "cell": 0.25 * (1 + number % 2),
        }
        save_raster(root / f"images/{name}.tif", image, **place)
        save_raster(root / f"masks/{name}.tif", label[None].astype(np.uint8), **place)
    return [f"data.root={root}", "plan.spacing=[0.5,0.5]"]


POTSDAM = ["top_potsdam_2_10", "top_potsdam_3_11", "top_potsdam_7_9", "top_potsdam_2_13"]


def potsdam(root: Path) -> list[str]:
    for number, name in enumerate(POTSDAM):
        image, label = drawn(name, range(6), 4)
        place: dict[str, Any] = {"epsg": 32633, "corner": (366000 + 300 * number, 5808000), "cell": 0.05}
        save_raster(root / f"4_Ortho_RGBIR/{name}_RGBIR.tif", image, photometric="RGB", **place)
        save_raster(root / f"{name}_label.tif", np.moveaxis(POTSDAM_COLOURS[label], -1, 0), epsg=None)
    return [f"data.root={root}"]


BIOME = {"LC80010732013109LGN00": 32719, "LC80420082013220LGN00": 32614, "LC81750622013304LGN00": 32635}


def biome(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Digital numbers with an edge of fill above them."""
    image, label = drawn(name, (64, 128, 192, 255), 11, np.uint16)
    image, label = 100 * image, label.astype(np.uint8)
    image[:, :6], label[:6] = 0, 0
    return image, label


def l8biome(root: Path) -> list[str]:
    for name, epsg in BIOME.items():
        image, label = biome(name)
        place: dict[str, Any] = {"epsg": epsg, "corner": (500000, 4000000), "cell": 30}
        save_raster(root / f"barren/{name}/{name}.TIF", image, **place)
        save_raster(root / f"barren/{name}/{name}_fixedmask.TIF", label[None], **place)
    return [f"data.root={root}"]


FLOODS = {"train": ["Ghana_103272", "India_1017769"], "valid": ["USA_741073"], "test": ["Spain_1199913"]}


def flood(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Backscatter in dB, with a NaN."""
    image, label = drawn(name, (-1, 0, 1), 2, np.float32)
    image[0, 0, 0] = np.nan
    return image - 100, label.astype(np.int16)


def sen1floods11(root: Path) -> list[str]:
    lists = root / "v1.1/splits/flood_handlabeled"
    lists.mkdir(parents=True)
    hand = root / "v1.1/data/flood_events/HandLabeled"
    number = 0
    for part, names in FLOODS.items():
        for name in names:
            image, label = flood(name)
            place: dict[str, Any] = {"epsg": 4326, "corner": (10 + number, 5), "cell": 9e-5}
            save_raster(hand / f"S1Hand/{name}_S1Hand.tif", image, nodata=np.nan, **place)
            save_raster(hand / f"S2Hand/{name}_S2Hand.tif", drawn(name, (-1, 0, 1), 13, np.int16)[0], **place)
            save_raster(hand / f"LabelHand/{name}_LabelHand.tif", label[None], **place)
            number += 1
        listed = [f"{name}_S1Hand.tif,{name}_LabelHand.tif\n" for name in names]
        (lists / f"flood_{part}_data.csv").write_text("".join(listed))
    return [f"data.root={root}"]


VAIHINGEN = {
    "train": ["top_mosaic_09cm_area1", "top_mosaic_09cm_area11", "top_mosaic_09cm_area32"],
    "test": ["top_mosaic_09cm_area6"],
}


def torchgeo(root: Path) -> list[str]:
    """Vaihingen, of which there is no ready option: chips of pictures, whose masks are colours."""
    for names in VAIHINGEN.values():
        for name in names:
            image, label = drawn(name, range(6), 3)
            save_picture(root / f"top/{name}.tif", np.moveaxis(image, 0, -1))
            save_picture(root / f"{name}.tif", POTSDAM_COLOURS[label])
    own = ["data.class_path=Vaihingen2D", "data.splits={train: train, test: test}"]
    return [f"data.root={root}", *own]


TORCHGEO: dict[str, Callable[[Path], list[str]]] = {
    write.__name__: write for write in (loveda, landcoverai, potsdam, l8biome, sen1floods11, torchgeo)
}
"""By option of data: what writes the dataset, and gives the overrides that point to it."""
