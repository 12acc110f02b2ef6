"""Tiny datasets, written by the tests that train on them."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

LABELS = {"background": 0, "anterior": 1, "posterior": 2}
AFFINE = np.array([[-1, 0, 0, 9], [0, 1, 0, -9], [0, 0, 1, 3], [0, 0, 0, 1.0]])
SMALL = (
    "data=nnunet", "logger=csv", "data.steps_per_epoch=2", "plan.patch=[16,16,16]", "plan.batch_size=2",
    "model.base_features=4", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "callbacks={}", "transform=light", "metric=overlap",
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
