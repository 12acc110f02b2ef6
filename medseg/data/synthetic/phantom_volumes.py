"""Drawn volumes: an abdomen of a few organs, deterministic, so that every command runs anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from medseg import formats
from medseg.data.dataset import Case, Dataset
from medseg.data.datasets.nnunet import NnunetDataset, declared_spec
from medseg.data.synthetic.cache import draw_once, settings_folder
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.sample import DataSpec

LABELS = {"background": 0, "liver": 1, "stomach": 2, "left kidney": 3, "right kidney": 4, "aorta": 5}
"""Class names and label values."""
PAIRS = (("left kidney", "right kidney"),)
_DECLARED = {"channel_names": {"0": "MR"}, "labels": LABELS}

_DRAWING = 1
"""Raised with every change of the drawing, so that volumes drawn before are not taken for new ones."""
_NOMINAL_SHAPE = (48, 56, 40)
_NOMINAL_MM = np.array([105.0, 90.0, 100.0])
"""Field of view of an average case, over which organs are placed from -1 to 1."""


class PhantomVolumes(Dataset):
    """Abdomens that differ in shape, spacing, orientation and contrast, each 48 x 56 x 40 voxels or so.

    Intensity alone does not tell the classes: liver and stomach are equally bright and touch, and differ
    in texture and place; kidneys, aorta and the unlabelled bowel are equally bright; the kidneys differ
    in their side only, which has to be read from the affine, as some volumes are stored flipped.

    The files are drawn on first use, in nnU-Net's raw layout, in a sub-folder of ``root`` that is named
    after the settings; there it is a ``NnunetDataset`` like any other.

    Args:
        root: Cache folder.
        n_cases: Cases for training and validation.
        n_test: Further cases, with labels.
        shape: Average number of voxels along each axis; the field of view stays the same.
        seed: Another seed draws other cases.
    """

    name = "phantom_volumes"

    def __init__(
        self,
        root: Path | str,
        *,
        n_cases: int = 24,
        n_test: int = 4,
        shape: Sequence[int] = _NOMINAL_SHAPE,
        seed: int = 0,
    ) -> None:
        if n_cases < 2 or n_test < 0 or len(shape) != 3 or min(shape) < 8:
            raise InputError(
                f"phantom_volumes: got n_cases={n_cases}, n_test={n_test}, shape={tuple(shape)}; expected at least 2 "
                "cases, no negative number of test cases and three axes of at least 8 voxels"
            )
        self.settings: dict[str, Any] = {
            "n_cases": n_cases,
            "n_test": n_test,
            "shape": [int(n) for n in shape],
            "seed": seed,
        }
        self.folder = settings_folder(root, {**self.settings, "drawing": _DRAWING})

    @property
    def spec(self) -> DataSpec:
        """What the drawn ``dataset.json`` declares; known before it is drawn."""
        return declared_spec(_DECLARED, self.folder, PAIRS)

    def cases(self) -> list[Case]:
        """Training cases; draws them if need be."""
        return self._drawn.cases()

    def test_cases(self) -> list[Case]:
        """Test cases with labels; draws them if need be."""
        return self._drawn.test_cases()

    @cached_property
    def _drawn(self) -> NnunetDataset:
        draw_once(self.folder, self._draw)
        return NnunetDataset(self.folder, name=self.name, pairs=PAIRS)

    def _draw(self, root: Path) -> None:
        n_cases, n_test = self.settings["n_cases"], self.settings["n_test"]
        for part, numbers in (("Tr", range(n_cases)), ("Ts", range(n_cases, n_cases + n_test))):
            for number in numbers:
                image, label, grid = draw_case(self.settings["seed"], number, self.settings["shape"])
                for folder, name, array in (("images", "_0000", image), ("labels", "", label)):
                    (root / f"{folder}{part}").mkdir(exist_ok=True)
                    formats.write(root / f"{folder}{part}" / f"phantom_{number:03d}{name}.nii.gz", array, grid)
        declared = {**_DECLARED, "numTraining": n_cases, "file_ending": ".nii.gz"}
        (root / "dataset.json").write_text(json.dumps(declared, indent=2), encoding="utf-8")


def draw_case(
    seed: int, number: int, shape: Sequence[int] = _NOMINAL_SHAPE
) -> tuple[Float[np.ndarray, "i j k"], UInt8[np.ndarray, "i j k"], Grid]:
    """Draw one case, a function of its arguments alone.

    Args:
        seed: Random seed of the dataset.
        number: Number of the case.
        shape: Average number of voxels along each axis.

    Returns:
        Image (float32, arbitrary unit, air near 0), label values of ``LABELS``, and their grid in
        RAS millimetres: anisotropic, slightly oblique, with flipped axes in about half of the cases.
    """
    rng = np.random.default_rng([seed, number])
    grid = _draw_grid(rng, shape)
    place = _deform(rng, _places(grid))
    image, label = _paint(rng, place)
    image += 0.12 * image * _smooth_noise(rng, grid, 4.0)  # tissue is not uniform
    image = _blur(image, (0.5, 0.5, 0.5))
    image *= np.exp(0.25 * _waves(rng, place, 2, 1.2))  # the coil's bias field
    image += rng.normal(0, 0.035, image.shape)
    return (image * rng.uniform(300, 1500)).astype(np.float32), label, grid


def _draw_grid(rng: np.random.Generator, shape: Sequence[int]) -> Grid:
    size = np.round(np.asarray(shape) * rng.uniform(0.92, 1.08, 3)).astype(int)
    spacing = _NOMINAL_MM / np.asarray(shape) * rng.uniform(0.94, 1.06, 3)
    turn = _rotation(rng.normal(0, np.deg2rad(3), 3))
    flips = np.where(rng.random(3) < 0.5, -1.0, 1.0) if rng.random() < 0.6 else np.ones(3)
    affine = np.eye(4)
    affine[:3, :3] = turn * (spacing * flips)
    affine[:3, 3] = rng.uniform(-30, 30, 3) - affine[:3, :3] @ (size - 1) / 2
    return Grid(tuple(size.tolist()), affine)


def _rotation(angles: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def _places(grid: Grid) -> Float[np.ndarray, "3 i j k"]:
    """Position of each voxel in the body: right, anterior, superior, -1 to 1 over the nominal field of view."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    centre = grid.to_world([(np.array(grid.shape) - 1) / 2])
    return ((grid.to_world(index) - centre) / (_NOMINAL_MM / 2)).T.reshape(3, *grid.shape)


def _waves(
    rng: np.random.Generator, place: Float[np.ndarray, "3 i j k"], n: int, frequency: float
) -> Float[np.ndarray, "i j k"]:
    """Smooth random field of about unit amplitude: ``n`` plane waves in random directions."""
    field = np.zeros(place.shape[1:])
    for _ in range(n):
        wave = rng.normal(0, frequency, 3)
        field += np.sin(np.tensordot(wave, place, 1) + rng.uniform(0, 2 * np.pi))
    return field / np.sqrt(n / 2)


def _deform(rng: np.random.Generator, place: Float[np.ndarray, "3 i j k"]) -> Float[np.ndarray, "3 i j k"]:
    """Places of an average body for the places of this one: size, then a smooth bend."""
    scaled = place / rng.uniform(0.93, 1.05, (3, 1, 1, 1))
    bend = np.stack([_waves(rng, place, 5, 2.0) for _ in range(3)])
    return scaled + 0.035 * bend


def _ellipsoid(
    place: Float[np.ndarray, "3 i j k"], centre: Sequence[float] | Float[np.ndarray, " 3"], radii: Sequence[float]
) -> Float[np.ndarray, "i j k"]:
    """Squared distance from the centre, 1 on the surface."""
    offset = [(p - c) / r for p, c, r in zip(place, centre, radii, strict=True)]
    return offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2


def _paint(
    rng: np.random.Generator, place: Float[np.ndarray, "3 i j k"]
) -> tuple[Float[np.ndarray, "i j k"], UInt8[np.ndarray, "i j k"]]:
    """Tissue brightness (0 to 1) and label, painted from the outside inwards."""
    right, front, up = place
    bright = {
        "fat": 0.85, "muscle": 0.35, "cavity": 0.2, "spine": 0.6, "disc": 0.3,
        "soft": 0.58, "vessel": 0.75, "wall": 0.42, "pelvis": 0.45,
    }  # fmt: skip
    bright = {tissue: value + rng.normal(0, 0.02) for tissue, value in bright.items()}
    shift = rng.normal(0, 0.03, (5, 3))
    image, label = np.zeros(place.shape[1:]), np.zeros(place.shape[1:], dtype=np.uint8)

    body = (right / 0.95) ** 2 + (front / 0.92) ** 2 + (up / 1.7) ** 4
    for tissue, edge in (("fat", 1.0), ("muscle", 0.8), ("cavity", 0.62)):
        image[body < edge] = bright[tissue]
    column = (right / 0.2) ** 2 + ((front + 0.62) / 0.2) ** 2
    image[column < 1] = np.where(np.sin(9 * up) > -0.8, bright["spine"], bright["disc"])[column < 1]
    image[(np.abs(right) < 0.05) & (front < -0.6) & (front > -0.85)] = bright["spine"]

    bowel = (body < 0.58) & (front > -0.3) & (up < 0.05 - 0.5 * front)
    loops = np.sin(8 * right + 2 * _waves(rng, place, 2, 2.0)) * np.sin(8 * front + 2 * _waves(rng, place, 2, 2.0))
    image[bowel & (np.abs(loops) > 0.3)] = bright["vessel"]
    image[bowel & (np.abs(loops) > 0.75)] = bright["pelvis"]
    spleen = _ellipsoid(place, (-0.6, -0.28, 0.5), (0.15, 0.26, 0.3))
    image[(spleen < 1) & (body < 0.62)] = bright["soft"]

    stomach = _ellipsoid(place, np.array([-0.36, 0.26, 0.38]) + shift[0], (0.34, 0.36, 0.44))
    folds = 0.18 * np.sin(16 * right + 10 * front + 12 * up)
    filled = (stomach < 1) & (body < 0.55)
    image[(stomach < 1.2) & (body < 0.62)] = bright["cavity"]
    image[filled] = np.where(stomach < 0.7, bright["soft"] + folds, bright["wall"])[filled]
    label[filled] = LABELS["stomach"]

    main = _ellipsoid(place, np.array([0.36, 0.1, 0.36]) + shift[1], (0.42, 0.5, 0.5))
    lobe = _ellipsoid(place, np.array([0.02, 0.34, 0.42]) + shift[1], (0.34, 0.26, 0.3))
    liver = (np.minimum(main, lobe) < 1) & (body < 0.57) & (stomach > 1)
    veins = np.abs(_waves(rng, place, 4, 5.0)) < 0.1
    image[liver], label[liver] = bright["soft"], LABELS["liver"]
    image[liver & veins & (np.minimum(main, lobe) < 0.6)] = bright["vessel"]

    for name, side, move in (("left kidney", -1, shift[2]), ("right kidney", 1, shift[3])):
        centre = np.array([0.44 * side, -0.36, -0.16 - 0.04 * side]) + move
        kidney = _ellipsoid(place, centre, (0.2, 0.21, 0.38))
        hilum = _ellipsoid(place, centre - np.array([0.12 * side, 0, 0]), (0.1, 0.08, 0.14))
        image[kidney < 1], label[kidney < 1] = bright["vessel"], LABELS[name]
        image[(kidney < 1) & (hilum < 1)] = bright["pelvis"]
        capsule = (kidney >= 1) & (kidney < 1.5)
        image[capsule & (body < 0.62)], label[capsule] = bright["cavity"], 0

    bend = 0.06 * np.sin(2.2 * up + rng.uniform(0, 2 * np.pi))
    tube = ((right + 0.08 + bend + shift[4, 0]) / 0.13) ** 2 + ((front + 0.27) / 0.12) ** 2
    inside = (tube < 1) & (body < 1)
    image[(tube < 1.9) & (label == 0) & (column > 1) & (body < 0.62)] = bright["cavity"]
    image[inside], label[inside] = bright["vessel"], LABELS["aorta"]
    return image, label


def _blur(image: Float[np.ndarray, "i j k"], sigma: Sequence[float]) -> Float[np.ndarray, "i j k"]:
    """Gaussian blur by Fourier transform, so the first and last slices mix a little; sigma in voxels."""
    response = np.ones((1, 1, 1))
    for axis, (n, s) in enumerate(zip(image.shape, sigma, strict=True)):
        along = np.exp(-2 * (np.pi * s * np.fft.fftfreq(n)) ** 2)
        response = response * along.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.fft.ifftn(np.fft.fftn(image) * response).real


def _smooth_noise(rng: np.random.Generator, grid: Grid, sigma_mm: float) -> Float[np.ndarray, "i j k"]:
    """White noise blurred to grains of this size, unit variance."""
    noise = _blur(rng.normal(size=grid.shape), [sigma_mm / s for s in grid.spacing])
    return noise / noise.std()
