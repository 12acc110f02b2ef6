"""Kvasir-SEG (1,000 polyps in colonoscopy) for data=images: its masks are JPEG, whose noise is no label.

python scripts/prepare_kvasir_seg.py Kvasir-SEG TARGET

Reads images/*.jpg and masks/*.jpg; writes images/*.jpg (the same bytes) and masks/*.png, 255 where the mask
is brighter than 127, and 0 elsewhere.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.case import refuse
from medseg.data.conversion.preparation import Work, expected, run


def plan(asked: argparse.Namespace) -> list[Work]:
    folders = [expected(asked.source / name, f"the folder {name} of Kvasir-SEG") for name in ("images", "masks")]
    images, masks = ({path.stem: path for path in sorted(folder.glob("*.jpg"))} for folder in folders)
    refuse([] if images else ["none"], f"images in {folders[0]}", "expected the .jpg files of Kvasir-SEG")
    refuse(sorted(set(images) ^ set(masks)), "name(s) with only an image or only a mask", "complete the dataset")
    return [work(name, images[name], masks[name]) for name in images]


def work(name: str, image: Path, mask: Path) -> Work:
    def write(image_draft: Path, mask_draft: Path) -> None:
        shutil.copyfile(image, image_draft)
        source = formats.open(mask)
        grey = source.read().mean(axis=0)
        formats.write(mask_draft, np.where(grey > 127, 255, 0).astype(np.uint8), source.grid)

    return Work(name, (f"images/{name}.jpg", f"masks/{name}.png"), write)


def main(arguments: list[str] | None = None) -> None:
    run(
        "Kvasir-SEG",
        __doc__,
        plan,
        command="medseg-train experiment=kvasir_seg data.root={target}",
        arguments=arguments,
    )


if __name__ == "__main__":
    main()
