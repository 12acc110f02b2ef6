"""DRIVE (retinal vessels) for data=images: its masks and fields of view are GIF, which is not read.

python scripts/prepare_drive.py DRIVE TARGET

Reads training/images/21_training.tif, training/1st_manual/21_manual1.gif, training/mask/21_training_mask.gif, and
test/ likewise (its 1st_manual may be missing). Writes images, masks and fov, and test_images, test_masks and
test_fov, as PNG of the same values (0 and 255), named 21.png.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.data.case import refuse
from medseg.data.conversion.preparation import Work, expected, run

PARTS = {"training": ("", "training"), "test": ("test_", "test")}


def plan(asked: argparse.Namespace) -> list[Work]:
    found = []
    for folder, (prefix, word) in PARTS.items():
        images = expected(asked.source / folder / "images", "DRIVE's images")
        names = sorted(path.name.partition("_")[0] for path in images.glob(f"*_{word}.tif"))
        refuse([] if names else ["none"], f"images in {images}", f"expected files such as 21_{word}.tif")
        labelled = folder == "training" or (asked.source / folder / "1st_manual").is_dir()
        for name in names:
            files = {
                "images": images / f"{name}_{word}.tif",
                "fov": asked.source / folder / "mask" / f"{name}_{word}_mask.gif",
            }
            if labelled:
                files["masks"] = asked.source / folder / "1st_manual" / f"{name}_manual1.gif"
            for kind, path in files.items():
                expected(path, f"one of DRIVE's {kind}")
            found.append(work(f"{folder} {name}", {f"{prefix}{kind}/{name}.png": p for kind, p in files.items()}))
    return found


def work(case: str, files: dict[str, Path]) -> Work:
    def write(*drafts: Path) -> None:
        for draft, path in zip(drafts, files.values(), strict=True):
            with Image.open(path) as picture:
                cells = np.array(picture.convert("RGB" if picture.mode == "RGB" else "L"))
            Image.fromarray(cells).save(draft, format="PNG")

    return Work(case, tuple(files), write)


def main(arguments: list[str] | None = None) -> None:
    run("DRIVE", __doc__, plan, command="medseg-train experiment=drive data.root={target}", arguments=arguments)


if __name__ == "__main__":
    main()
