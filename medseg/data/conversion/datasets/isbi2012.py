"""ISBI 2012 (membranes in electron micrographs) for data=images: a picture for each of its 30 sections.

medseg-prepare isbi2012 FOLDER TARGET

Reads train-volume.tif and train-labels.tif, which hold all sections; writes images/00.png and masks/00.png and so on
with the values of the files: masks have 0 on membranes and 255 in cells.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageSequence

from medseg.data.case import refuse
from medseg.data.conversion.preparation import PublishedDataset, Work, expected


def plan(source: Path) -> list[Work]:
    """Work of the dataset, a case each; see the module."""
    stacks = [expected(source / f"train-{what}.tif", f"ISBI 2012's {what}") for what in ("volume", "labels")]
    counts = []
    for stack in stacks:
        with Image.open(stack) as pages:
            counts.append(getattr(pages, "n_frames", 1))
    refuse(
        [] if counts[0] == counts[1] else [f"{counts[0]} and {counts[1]} sections"],
        f"stacks in {source} that differ",
        "fetch them anew",
    )
    return [_convert_section(number, stacks) for number in range(counts[0])]


def _convert_section(number: int, stacks: list[Path]) -> Work:
    def write(*drafts: Path) -> None:
        for draft, stack in zip(drafts, stacks, strict=True):
            with Image.open(stack) as pages:
                page = ImageSequence.Iterator(pages)[number]
                page.convert("L").save(draft, format="PNG")

    return Work(f"{number:02d}", (f"images/{number:02d}.png", f"masks/{number:02d}.png"), write)


DATASET = PublishedDataset("ISBI 2012", plan)
