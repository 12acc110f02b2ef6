"""DRIVE (retinal vessels) for data=images: its masks and fields of view are GIF, which is not read.

medseg-prepare drive DRIVE TARGET

Reads training/images/21_training.tif, training/1st_manual/21_manual1.gif, training/mask/21_training_mask.gif, and
test/ likewise (its 1st_manual may be missing). Writes images, masks and fov, and test_images, test_masks and
test_fov, as PNG of the same values (0 and 255), named 21.png.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.case import refuse
from medseg.data.conversion.preparation import PublishedDataset, Work, expected

PARTS = {"training": ("", "training"), "test": ("test_", "test")}


def plan(source: Path) -> list[Work]:
    """Work of the dataset, a case each; see the module."""
    found = []
    for folder, (prefix, word) in PARTS.items():
        images = expected(source / folder / "images", "DRIVE's images")
        names = sorted(path.name.partition("_")[0] for path in images.glob(f"*_{word}.tif"))
        refuse([] if names else ["none"], f"images in {images}", f"expected files such as 21_{word}.tif")
        labelled = folder == "training" or (source / folder / "1st_manual").is_dir()
        for name in names:
            files = {
                "images": images / f"{name}_{word}.tif",
                "fov": source / folder / "mask" / f"{name}_{word}_mask.gif",
            }
            if labelled:
                files["masks"] = source / folder / "1st_manual" / f"{name}_manual1.gif"
            for kind, path in files.items():
                expected(path, f"one of DRIVE's {kind}")
            found.append(
                _convert_case(f"{folder} {name}", {f"{prefix}{kind}/{name}.png": p for kind, p in files.items()})
            )
    return found


def _convert_case(case: str, files: dict[str, Path]) -> Work:
    def write(*drafts: Path) -> None:
        for draft, path in zip(drafts, files.values(), strict=True):
            with Image.open(path) as picture:
                cells = np.array(picture.convert("RGB" if picture.mode == "RGB" else "L"))
            Image.fromarray(cells).save(draft, format="PNG")

    return Work(case, tuple(files), write)


DATASET = PublishedDataset("DRIVE", plan)
