"""Reading: how the files of a case are held to what is declared."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from medseg.data.layout.dates import DateLayout
from medseg.errors import InputError
from medseg.formats.colours import Colours, colours_by_name
from medseg.geometry.tolerance import GRID_TOLERANCE, checked_tolerance

Nonfinite = Literal["error", "mask"]
"""What to do with NaN and infinite cells: refuse the case, or mark them as not valid."""


@dataclass(frozen=True)
class Reading:
    """How the files of a case are held to what is declared; kept in checkpoints, as new images need it too.

    Attributes:
        nonfinite: ``error`` refuses NaN and infinite cells of the image (in a volume they are a defect).
            ``mask`` sets these values to 0 and marks their cells as not valid (in a scene they are nodata).
            In a label they are refused always.
        grid_tolerance: Displacement, in cells, up to which the grids of two files count as one: the
            largest between corresponding corners. Headers that went through other software differ by
            rounding. At most 1.
        bands: Names of the bands of the image files, in order, where the files do not name them or
            name them otherwise; empty takes the files' own.
        other_grid: What to do with a file on another grid of the same CRS: ``error``, or ``align`` it
            on the grid of the case's first image (nearest cell for labels, linear for images).
        other_crs: Likewise for a file in another CRS: ``error`` or ``warp``.
        attribute: Of vector labels: the field that holds the class (value or name); None burns 1.
        layer: Of vector labels: which layer; None takes the only one.
        all_touched: Of vector labels: burn every cell that a shape touches, not only those whose
            centre lies inside.
        nodata: Value of image cells without data where files do not tag it; a cell has none if all of its
            bands that are read have this value.
        mask_colours: Of labels that show classes as colours: the RGB of each class name, or several.
        dates: Of time series: how dates lie in files. None where there is no time axis.
    """

    nonfinite: Nonfinite = "error"
    grid_tolerance: float = GRID_TOLERANCE
    bands: tuple[str, ...] = ()
    other_grid: Literal["error", "align"] = "error"
    other_crs: Literal["error", "warp"] = "error"
    attribute: str | None = None
    layer: str | None = None
    all_touched: bool = False
    nodata: float | None = None
    mask_colours: Colours = ()
    dates: DateLayout | None = None

    def __post_init__(self) -> None:
        checked_tolerance(self.grid_tolerance, "data.grid_tolerance")

    @classmethod
    def of(cls, **settings: Any) -> Reading:
        """From the keys of ``conf/data`` that have the same names; others are passed over.

        Raises:
            InputError: A choice that there is not.
        """
        given = {f.name: settings[f.name] for f in fields(cls) if settings.get(f.name) is not None}
        if "bands" in given:
            given["bands"] = tuple(given["bands"])
        if "mask_colours" in given:
            given["mask_colours"] = colours_by_name(given["mask_colours"])
        if "dates" in given:
            given["dates"] = DateLayout.from_config(given["dates"])
        choices = {"nonfinite": ("error", "mask"), "other_grid": ("error", "align"), "other_crs": ("error", "warp")}
        for key, known in choices.items():
            if given.get(key, known[0]) not in known:
                raise InputError(f"data.{key}={given[key]}: choose {' or '.join(known)}")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, which keys stores and fingerprints; those of data without time as before it was known."""
        stored = asdict(self)
        return stored if self.dates else {name: value for name, value in stored.items() if name != "dates"}
