"""Data Science Bowl 2018 (nuclei) for data=images: one mask an image instead of one a nucleus.

python scripts/prepare_dsb2018.py stage1_train TARGET

Reads ID/images/ID.png and ID/masks/*.png; writes images/ID.png (the same bytes) and masks/ID.png, 255 where any of
the nuclei is.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from medseg import formats
from medseg.data.case import refuse
from medseg.data.conversion.preparation import Work, expected, run


def plan(asked: argparse.Namespace) -> list[Work]:
    cases = sorted(path for path in asked.source.iterdir() if (path / "images").is_dir())
    refuse([] if cases else ["none"], f"images in {asked.source}", "expected stage1_train, with ID/images and ID/masks")
    return [work(case) for case in cases]


def work(case: Path) -> Work:
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


def main(arguments: list[str] | None = None) -> None:
    run(
        "Data Science Bowl 2018",
        __doc__,
        plan,
        command="medseg-train experiment=dsb2018 data.root={target}",
        arguments=arguments,
    )


if __name__ == "__main__":
    main()
