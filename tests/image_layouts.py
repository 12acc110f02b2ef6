"""Tiny images in the layouts in which retinas, membranes, nuclei, lesions, polyps, scars and landslides are published.

Written by PIL and rasterio, not by the package.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hdf5 import write_arrays, write_hdf5
from tests.prepared import prepare
from tests.torchgeo_layouts import drawn, save_picture, save_raster, torchgeo


def picture(name: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB image ``[row, column, 3]`` and mask of 0 and 255."""
    image, label = drawn(name, (0, 255), 3)
    return np.moveaxis(image, 0, -1), label.astype(np.uint8)


def write_drive(root: Path, *, names: tuple[str, ...] = ("21", "22", "37", "38", "39", "40")) -> None:
    for part, numbers in {"training": names, "test": ("01", "02")}.items():
        for number in numbers:
            image, mask = picture(number)
            view = np.full_like(mask, 255)
            view[:2] = 0
            save_picture(root / part / f"images/{number}_{part}.tif", image)
            save_picture(root / part / f"1st_manual/{number}_manual1.gif", mask)
            save_picture(root / part / f"mask/{number}_{part}_mask.gif", view)


def drive(root: Path) -> list[str]:
    write_drive(root / "DRIVE")
    prepare("drive", root / "DRIVE", root / "prepared")
    return [f"data.root={root / 'prepared'}"]


def write_isbi2012(root: Path, *, sections: int = 12) -> None:
    """Stacks of sections; masks are white in cells and black on membranes."""
    root.mkdir(parents=True)
    drawings = [picture(f"section {number}") for number in range(sections)]
    for what, pages in (("volume", [image[..., 0] for image, _ in drawings]), ("labels", [m for _, m in drawings])):
        first, *others = [Image.fromarray(np.ascontiguousarray(page)) for page in pages]
        first.save(root / f"train-{what}.tif", save_all=True, append_images=others)


def isbi2012(root: Path) -> list[str]:
    write_isbi2012(root / "ISBI-2012")
    prepare("isbi2012", root / "ISBI-2012", root / "prepared")
    return [f"data.root={root / 'prepared'}"]


def write_dsb2018(root: Path, *, names: tuple[str, ...] = ("00071198d059", "003cee89357d", "00ae65c1c6ff")) -> None:
    """Images with alpha, and a mask for the left and for the right half of what is bright."""
    for name in names:
        image, mask = picture(name)
        save_picture(root / name / f"images/{name}.png", np.dstack([image, np.full_like(mask, 255)]))
        for half in (0, 1):
            nucleus = mask * (np.arange(mask.shape[1]) // (mask.shape[1] // 2) == half)
            save_picture(root / name / f"masks/{name}{half}.png", nucleus.astype(np.uint8))


def dsb2018(root: Path) -> list[str]:
    write_dsb2018(root / "stage1_train")
    prepare("dsb2018", root / "stage1_train", root / "prepared")
    return [f"data.root={root / 'prepared'}"]


def isic2018(root: Path) -> list[str]:
    parts = {"Training": ["ISIC_0000000", "ISIC_0000001"], "Validation": ["ISIC_0012255"], "Test": ["ISIC_0012169"]}
    for part, names in parts.items():
        images, masks = root / f"ISIC2018_Task1-2_{part}_Input", root / f"ISIC2018_Task1_{part}_GroundTruth"
        for name in names:
            image, mask = (
                np.kron(cells, np.ones((4, 4) + (1,) * (cells.ndim - 2), np.uint8)) for cells in picture(name)
            )
            save_picture(images / f"{name}.jpg", image)
            save_picture(masks / f"{name}_segmentation.png", mask)
        (images / "ATTRIBUTION.txt").write_text("ISIC\n")
    return [f"data.root={root}"]


POLYPS = ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0qx73cjw570799j4n5cjze")


def write_kvasir_seg(root: Path) -> None:
    for name in POLYPS:
        image, mask = picture(name)
        save_picture(root / f"images/{name}.jpg", image)
        save_picture(root / f"masks/{name}.jpg", np.dstack([mask] * 3))
    (root / "kavsir_bboxes.json").write_text("{}")


def kvasir_seg(root: Path) -> list[str]:
    write_kvasir_seg(root / "Kvasir-SEG")
    prepare("kvasir_seg", root / "Kvasir-SEG", root / "prepared")
    return [f"data.root={root / 'prepared'}"]


def hls_burn_scars(root: Path) -> list[str]:
    tiles = {"training": ["T10SDH.2020245", "T10SEH.2018190"], "validation": ["T10SDH.2019150"]}
    for number, (part, names) in enumerate(tiles.items()):
        for place, name in enumerate(names):
            image, label = drawn(name, (-1, 0, 1), 6, np.float32)
            chip = root / part / f"subsetted_512x512_HLS.S30.{name}.v1.4"
            corner = (500000 + 2000 * place, 4200000 + 2000 * number)
            save_raster(Path(f"{chip}_merged.tif"), image / 255, epsg=32610, corner=corner, cell=30)
            save_raster(Path(f"{chip}.mask.tif"), label[None].astype(np.int16), epsg=32610, corner=corner, cell=30)
    return [f"data.root={root}"]


def write_landslide4sense(root: Path, *, masked: tuple[str, ...] = ("Train", "Valid", "Test")) -> None:
    for part, numbers in {"Train": (1, 2, 10), "Valid": (1,), "Test": (1,)}.items():
        for number in numbers:
            image, label = drawn(f"{part} {number}", (0, 1), 14, np.float32)
            write_hdf5(root / f"{part}Data/img/image_{number}.h5", "img", np.moveaxis(image, 0, -1).astype(float) / 100)
            if part in masked:
                write_hdf5(root / f"{part}Data/mask/mask_{number}.h5", "mask", label.astype(np.uint8))


GEOBENCH = {"train": ["place_1", "place_2", "place_3"], "valid": ["place_4"], "test": ["place_5"]}
GEOBENCH_BANDS = ("02 - Blue_2019-11-04", "04 - Red_2019-11-04", "08A - Vegetation Red Edge_2019-11-04")


def write_geobench(root: Path) -> None:
    """A segmentation set of GEO-Bench 1.0, with a partition of fewer training samples."""
    root.mkdir(parents=True, exist_ok=True)
    for name in (name for names in GEOBENCH.values() for name in names):
        image, label = drawn(name, (0, 1, 2), len(GEOBENCH_BANDS), np.float32)
        arrays = dict(zip(GEOBENCH_BANDS, image.astype(float), strict=True))
        write_arrays(root / f"{name}.hdf5", arrays | {"label_2019-11-04": label.astype(np.uint8)})
    for partition, parts in {"default": GEOBENCH, "0.50x_train": GEOBENCH | {"train": ["place_2"]}}.items():
        (root / f"{partition}_partition.json").write_text(json.dumps(parts), encoding="utf-8")


def landslide4sense(root: Path) -> list[str]:
    write_landslide4sense(root / "Landslide4Sense")
    prepare("landslide4sense", root / "Landslide4Sense", root / "prepared")
    return [f"data.root={root / 'prepared'}"]


def vaihingen(root: Path) -> list[str]:
    return torchgeo(root)[:1]


PUBLISHED_IMAGES: dict[str, Callable[[Path], list[str]]] = {
    write.__name__: write
    for write in (drive, isbi2012, dsb2018, isic2018, kvasir_seg, hls_burn_scars, landslide4sense, vaihingen)
}
"""By experiment: what writes the dataset, and gives the overrides that point to it."""
