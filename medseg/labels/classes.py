"""Parts of a label table: classes, regions, and the index of unknown cells."""

from __future__ import annotations

from dataclasses import dataclass

IGNORE = -1
"""Training index of a cell whose class is unknown. It never counts in a loss or a metric."""
PALETTE = (
    (0, 0, 0), (230, 75, 53), (0, 160, 135), (60, 84, 136), (255, 205, 70), (186, 90, 190),
    (77, 187, 213), (126, 97, 72), (243, 155, 127), (145, 209, 194), (132, 145, 180), (176, 156, 133),
)  # fmt: skip
"""Default colours of classes, the first for a background: hues that can be distinguished half transparent on grey,
then pale ones of the same hues."""


@dataclass(frozen=True)
class LabelClass:
    """One class of the training target.

    Attributes:
        name: Name, unique in its table.
        values: Raw values in label files that mean this class.
        saved: Value written for it in predictions.
        colour: RGB, 0 to 255.
    """

    name: str
    values: tuple[int, ...]
    saved: int
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """A union of classes that a network predicts as one sigmoid output; regions may overlap.

    Attributes:
        name: Region name.
        members: Training indices of its classes.
        paint: Training index of cells of the region in a label map; later regions paint over earlier ones.
    """

    name: str
    members: tuple[int, ...]
    paint: int
