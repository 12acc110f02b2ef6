"""Small sound datasets for the data doctor, and what it says of them."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import rasterio

from medseg import formats
from medseg.data.dataset import Dataset
from medseg.data.datasets.nnunet import NnunetDataset
from medseg.data.datasets.rasters import RastersDataset
from medseg.data.reading.options import ReadOptions
from medseg.doctor import Finding, examine
from medseg.geometry.grid import PIXEL, Grid
from tests.tiny import AFFINE, save, utm_grid

ROAD = {"background": 0, "road": 1}


def write_volumes(root: Path, *, n_cases: int = 6, channels: int = 1, labels: dict[str, int] | None = None) -> Path:
    """Cases c0, c1, ... of 16 x 14 x 12 voxels with one bright box (1) on the left and one (2) on the right."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in range(n_cases):
        rng = np.random.default_rng(number)
        label = np.zeros((16, 14, 12), dtype=np.uint8)
        label[10:14, 3 : 8 + number % 2, 3:8], label[2:6, 3:8, 3 : 8 + number % 2] = 1, 2  # axis 0 runs to the left
        label[13, 3, 3 + number % 5] = 0  # no two labels are alike
        for channel in range(channels):
            image = rng.normal(100, 10, label.shape) + np.array([0, 60, -60])[label] * (1 - channel) + 400 * channel
            save(root / f"imagesTr/c{number}_{channel:04d}.nii.gz", image.astype(np.float32))
        save(root / f"labelsTr/c{number}.nii.gz", label)
    names = {str(i): name for i, name in enumerate(["T1", "T2"][:channels])}
    table = labels or {"background": 0, "anterior": 1, "posterior": 2}
    declared = {"channel_names": names, "labels": table, "numTraining": n_cases, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(declared))
    return root


def volumes(root: Path, **settings: object) -> NnunetDataset:
    return NnunetDataset(write_volumes(root, **settings))  # type: ignore[arg-type]


def relabel(path: Path, label: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    save(path, label, affine)


def label_of(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj).copy()


def write_scenes(root: Path, *, n_cases: int = 6, georeferenced: bool = True) -> Path:
    """Scenes s0, s1, ... of 24 x 40 cells with bands B4 and B8, next to one another, a road across each."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(n_cases):
        grid = scene_grid(number) if georeferenced else Grid((24, 40), np.eye(3), PIXEL)
        rng = np.random.default_rng(number)
        label = np.zeros((24, 40), dtype=np.uint8)
        label[10 : 14 + number % 2] = 1
        label[10, number] = 0
        image = rng.normal(100, 10, (2, 24, 40)) + np.array([0, 80])[:, None, None] + 30 * label
        formats.write_image(root / f"images/s{number}.tif", image.astype(np.float32), grid, names=["B4", "B8"])
        formats.write(root / f"masks/s{number}.tif", label, grid)
    return root


def scene_grid(number: int) -> Grid:
    grid = utm_grid((24, 40))
    affine = grid.affine.copy()
    affine[0, 2] += 1000 * number
    return Grid(grid.shape, affine, grid.frame)


def scenes(root: Path, **reading: object) -> RastersDataset:
    """The scenes below ``root``."""
    settings = {"nonfinite": "mask", "other_grid": "align"} | reading
    return RastersDataset(root, ["B4", "B8"], ROAD, reading=ReadOptions.from_config(**settings))


def write_pictures(root: Path, *, n_cases: int = 6) -> Path:
    """Pictures p0, p1, ... of 24 x 30 cells, RGB, with masks as PNG."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(n_cases):
        rng = np.random.default_rng(number)
        grid = Grid((24, 30), np.eye(3), PIXEL)
        label = np.zeros(grid.shape, dtype=np.uint8)
        label[8:14, 5 : 12 + number % 3] = 1
        label[8, 5 + number % 7] = 0
        image = rng.integers(0, 60, (3, *grid.shape)) + np.array([120, 60, 10])[:, None, None]
        formats.write_image(root / f"images/p{number}.png", image.astype(np.uint8), grid)
        formats.write(root / f"masks/p{number}.png", label, grid)
    return root


def pictures(root: Path) -> RastersDataset:
    """The pictures below ``root``."""
    return RastersDataset(root, ["R", "G", "B"], ROAD, reading=ReadOptions.from_config(nonfinite="mask"), kind="images")


def edit_scene(path: Path, **profile: object) -> None:
    """Write a GeoTIFF again with another profile."""
    with rasterio.open(path) as scene:
        cells, kept, names = scene.read(), scene.profile | profile, scene.descriptions
    path.unlink()
    with rasterio.open(path, "w", **kept) as scene:
        scene.write(cells.astype(kept["dtype"]))
        scene.descriptions = names


def found(dataset: Dataset, **settings: object) -> list[Finding]:
    """What the doctor finds, notes left out."""
    return [f for f in examine(dataset, **settings)[1] if f.severity != "note"]  # type: ignore[arg-type]


def named(findings: list[Finding]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.check, f.severity, f.cases) for f in findings]
