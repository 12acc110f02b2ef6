"""Data Science Bowl 2018 (nuclei) for data=images: one mask an image instead of one a nucleus.

medseg-prepare dsb2018 stage1_train TARGET

Reads ID/images/ID.png and ID/masks/*.png; writes images/ID.png (the same bytes) and masks/ID.png, 255 where any of
the nuclei is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.case import refuse
from medseg.data.conversion.preparation import PublishedDataset, Work, expected


def plan(source: Path) -> list[Work]:
    """Work of the dataset, a case each; see the module."""
    cases = sorted(path for path in source.iterdir() if (path / "images").is_dir())
    refuse([] if cases else ["none"], f"images in {source}", "expected stage1_train, with ID/images and ID/masks")
    return [_convert_case(case) for case in cases]


def _convert_case(case: Path) -> Work:
    image = expected(case / "images" / f"{case.name}.png", "its image")
    expected(case / "masks", "its masks, which stage1_train has")

    def write(image_draft: Path, mask_draft: Path) -> None:
        shutil.copyfile(image, image_draft)
        grid = formats.open(image).grid
        union = np.zeros(grid.shape, dtype=np.uint8)
        for path in sorted((case / "masks").glob("*.png")):
            union |= formats.open(path).read().max(axis=0)
        formats.write(mask_draft, union, grid)

    return Work(case.name, (f"images/{case.name}.png", f"masks/{case.name}.png"), write)


DATASET = PublishedDataset("Data Science Bowl 2018", plan)
