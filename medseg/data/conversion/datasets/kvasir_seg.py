"""Kvasir-SEG (1,000 polyps in colonoscopy) for data=images: its masks are JPEG, whose noise is no label.

medseg-prepare kvasir_seg Kvasir-SEG TARGET

Reads images/*.jpg and masks/*.jpg; writes images/*.jpg (the same bytes) and masks/*.png, 255 where the mask
is brighter than 127, and 0 elsewhere.
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
    folders = [expected(source / name, f"the folder {name} of Kvasir-SEG") for name in ("images", "masks")]
    images, masks = ({path.stem: path for path in sorted(folder.glob("*.jpg"))} for folder in folders)
    refuse([] if images else ["none"], f"images in {folders[0]}", "expected the .jpg files of Kvasir-SEG")
    refuse(sorted(set(images) ^ set(masks)), "name(s) with only an image or only a mask", "complete the dataset")
    return [_convert_case(name, images[name], masks[name]) for name in images]


def _convert_case(name: str, image: Path, mask: Path) -> Work:
    def write(image_draft: Path, mask_draft: Path) -> None:
        shutil.copyfile(image, image_draft)
        source = formats.open(mask)
        grey = source.read().mean(axis=0)
        formats.write(mask_draft, np.where(grey > 127, 255, 0).astype(np.uint8), source.grid)

    return Work(name, (f"images/{name}.jpg", f"masks/{name}.png"), write)


DATASET = PublishedDataset("Kvasir-SEG", plan)
