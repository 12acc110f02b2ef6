"""Tiny datasets, written by the tests that train on them."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from omegaconf import DictConfig, OmegaConf

from medseg import formats
from medseg.geometry.grid import PIXEL, Grid
from medseg.sensors.formula import Formula

LABELS = {"background": 0, "anterior": 1, "posterior": 2}
AFFINE = np.array([[-1, 0, 0, 9], [0, 1, 0, -9], [0, 0, 1, 3], [0, 0, 0, 1.0]])
SMALL = (
    "data=nnunet", "logger=csv", "trainer.steps_per_epoch=2", "plan.patch=[16,16,16]", "plan.batch_size=2",
    "model.base_features=4", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "callback={}", "transform=light", "metric=overlap",
)  # fmt: skip
"""Overrides for a training of a second on what ``write_nnunet`` writes."""


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def draw(seed: int, shape: Sequence[int] = (20, 20, 20)) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright box (1) and a dark one (2), and its label."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, dtype=np.uint8)
    label[4:9, 4 : 9 + seed, :11], label[11:16, 5:15, :9] = 1, 2
    image = rng.normal(100, 10, shape) + np.array([0, 60, -60])[label]
    return image.astype(np.float32), label


def write_nnunet(root: Path, *, n_cases: int = 5, channels: Sequence[str] = ("MR",)) -> Path:
    """A dataset in nnU-Net's raw layout: cases c0, c1, ... with one image file for each channel."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in range(n_cases):
        image, label = draw(number)
        for channel in range(len(channels)):
            save(root / f"imagesTr/c{number}_{channel:04d}.nii.gz", image * (1 - 2 * channel))
        save(root / f"labelsTr/c{number}.nii.gz", label)
    names = {str(i): name for i, name in enumerate(channels)}
    declared = {"channel_names": names, "labels": LABELS, "numTraining": n_cases, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(declared))
    return root


def utm_grid(shape: Sequence[int], *, cell: float = 10.0, epsg: int = 32633) -> Grid:
    """North-up cells of ``cell`` metres; rows run south."""
    from rasterio.crs import CRS

    affine = np.array([[0, cell, 500000 + cell / 2], [-cell, 0, 4200000 - cell / 2], [0, 0, 1]])
    return Grid(tuple(shape), affine, CRS.from_epsg(epsg).to_wkt())


def write_planar(root: Path, cfg: DictConfig, *, n_cases: int = 3, shape: Sequence[int] = (24, 40)) -> Path:
    """Scenes or images as a configuration of ``data=rasters`` or ``data=images`` expects them.

    Every class is a stripe across each case, and as bright in every band as its place in the table.
    """
    data, split = cfg.data, cfg.split
    names = [name.replace("*", f"_{i}") for i, name in enumerate(split.val_cases or [])]
    names += [name.replace("*", f"_{i}") for i, name in enumerate(split.test_cases or [])]
    names += [
        f"case_{i}"
        for i in range(max(2 if split.n_labelled else 1, (4 * split.runs if split.runs else n_cases) - len(names)))
    ]
    entries = [dict(c) if OmegaConf.is_dict(c) else {c: ""} for c in data.channels]
    bands = list(data.bands) or [
        n for e in entries for c, f in e.items() for n in (Formula.parse(f).names if f else [c])
    ]
    bands = list(dict.fromkeys(bands))
    values = [v if isinstance(v, int) else v[0] for name, v in data.labels.items() if name != "ignore"]
    grid = Grid(tuple(shape), np.eye(3), PIXEL) if data.kind == "images" else utm_grid(shape)
    ending, mask_ending = (".png", ".png") if data.kind == "images" else (".tif", ".tif")
    of_folder = _bands_by_folder(data.images, bands)
    for folder in (*of_folder, data.masks, *([data.valid] if data.valid else [])):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        stripe = np.arange(shape[1]) * len(values) // shape[1]
        label = np.broadcast_to(np.array(values)[stripe], shape)
        rng = np.random.default_rng(number)
        image = 20 + 40 * stripe + rng.normal(0, 5, (len(bands), *shape))
        cells = image.clip(0, 255).astype(np.uint8 if data.kind == "images" else np.float32)
        for folder, own in of_folder.items():
            names_in_file = [band.rpartition(".")[2] for band in own] if data.kind == "rasters" else ()
            own_cells = cells[[bands.index(band) for band in own]]
            formats.write_image(root / folder / f"{name}{ending}", own_cells, grid, names=names_in_file)
        formats.write(
            root / data.masks / f"{name}{mask_ending}", label.astype(np.int16 if min(values) < 0 else np.uint8), grid
        )
        if data.valid:
            formats.write(
                root / data.valid / f"{name}.png", np.ones(shape, np.uint8), Grid(tuple(shape), np.eye(3), PIXEL)
            )
    return root


def _bands_by_folder(images: object, bands: Sequence[str]) -> dict[str, list[str]]:
    """Bands of each folder of images: those of its image group, or equal parts of all."""
    if OmegaConf.is_dict(images):
        return {folder: [b for b in bands if b.partition(".")[0] == group] for group, folder in images.items()}
    folders = [images] if isinstance(images, str) else list(images)
    return {f: part.tolist() for f, part in zip(folders, np.array_split(np.array(bands), len(folders)), strict=True)}
