"""Case: the files of one patient, scene or image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import BadInput
from medseg.geometry.box import Box


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        id: Unique in its dataset; predictions are named after it.
        images: One file for each channel in order, or one file that holds every channel; of a time series
            those of the first date, then those of the next.
        label: Label file; None where there is none.
        group: What splits may not tear apart; the id itself where nothing is known.
        valid: File of a validity mask (field of view), 0 where cells do not count; None if all do.
        box: Part of the files that the case is; None for all of it.
        days: Of a time series, its dates in days since 1970-01-01, increasing; else empty.
        in_file: Each file holds every date, its bands one date after another, instead of one date.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str
    valid: Path | None = None
    box: Box | None = None
    days: tuple[int, ...] = ()
    in_file: bool = False

    @property
    def files(self) -> list[Path]:
        """Every file that the case is read from."""
        return [*self.images, *(path for path in (self.label, self.valid) if path)]


def refuse(offenders: Sequence[str], what: str, way_out: str) -> None:
    """Raise ``BadInput`` that counts the offenders and names the first five; silent if there are none."""
    if offenders:
        raise BadInput(f"{len(offenders)} {what}: {first_five(offenders)}; {way_out}")


def first_five(names: Sequence[str]) -> str:
    """The first five names, and dots if there are more."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
