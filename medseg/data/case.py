"""Case: the files of one patient, scene or image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import InputError
from medseg.facts import CaseFacts
from medseg.geometry.box import Box

ABSENT_HINT = ", or train without some by data.absent=allow"
"""End of messages about cases without some of their images."""


DRAW, SOFT = "draw", "soft"
"""What patches may take of the labels of several observers: that of one, or the shares of all."""


@dataclass(frozen=True)
class Observers:
    """Labels of a case by several observers.

    Attributes:
        files: Label file of each, by name.
        use: ``DRAW`` or ``SOFT``, what patches take of them; empty if they take the joined label.
    """

    files: tuple[tuple[str, Path], ...]
    use: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Label file of each."""
        return tuple(path for _, path in self.files)


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes:
        id: Unique in its dataset; predictions are named after it.
        images: One file for each channel in order, or one file that holds every channel; of a time series
            those of the first date, then those of the next.
        label: Label file; None where there is none.
        group: Name of the group that splits keep together; the id itself if unknown.
        valid: File of a validity mask (field of view), 0 where cells do not count; None if all do.
        box: Part of the files that the case is; None for all of it.
        days: Dates of a time series in days since 1970-01-01, increasing; else empty.
        in_file: Each file holds every date, its bands one date after another, instead of one date.
        first_stage: Label file that the first network of a cascade predicted; None without a cascade.
        image_groups: Image group of each file, of a time series of each file of a date; empty where they have none.
            Where dates lack some groups, of each file of all dates.
        per_date: Of a time series in which dates lack some image groups, the number of files of each date; else empty.
        absent: Of the files that a complete case has in their order, numbers of those that this one lacks.
        further: Files that the images need to be read, such as scales of embeddings.
        annotated: Names of the classes or regions that the label annotates; None for all, see ``data.annotated``.
        part: Of a dataset of several, the name of the one that it belongs to; else empty.
        facts: What a table says about the case; None without a table.
        observers: Of a case that several observers have labelled, their labels, of which ``label`` is made; else None.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str
    valid: Path | None = None
    box: Box | None = None
    days: tuple[int, ...] = ()
    in_file: bool = False
    first_stage: Path | None = None
    image_groups: tuple[str, ...] = ()
    absent: tuple[int, ...] = ()
    further: tuple[Path, ...] = ()
    annotated: frozenset[str] | None = None
    part: str = ""
    facts: CaseFacts | None = None
    per_date: tuple[int, ...] = ()
    observers: Observers | None = None

    def of_date(self, number: int) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Image files of one date of a time series with a file for each date, and their image groups.

        Example:
            >>> files = (Path("s2_1"), Path("s1_1"), Path("s1_2"))
            >>> case = Case("a", files, None, "a", days=(1, 2), image_groups=("s2", "s1", "s1"), per_date=(2, 1))
            >>> case.of_date(1) == ((Path("s1_2"),), ("s1",))
            True
        """
        if not self.per_date:
            each = len(self.images) // len(self.days)
            return self.images[number * each : (number + 1) * each], self.image_groups
        start = sum(self.per_date[:number])
        own = slice(start, start + self.per_date[number])
        return self.images[own], self.image_groups[own]

    @property
    def groups_of_images(self) -> tuple[str, ...]:
        """Image group of each image file of all dates; empty where they have none."""
        repeated = 1 if self.per_date or self.in_file else max(1, len(self.days))
        return self.image_groups * repeated

    @property
    def files(self) -> list[Path]:
        """Every file of the dataset that the case is read from; a prediction is none of them."""
        own = [*self.images, *(path for path in (self.label, self.valid) if path), *self.further]
        return [*own, *self.votes]

    @property
    def votes(self) -> tuple[Path, ...]:
        """Label files of the observers where patches take these; empty if the joined label is all that is read."""
        observers = self.observers
        return observers.paths if observers is not None and observers.use and self.label is not None else ()


@dataclass(frozen=True)
class Refused:
    """A problem that ``refuse`` reported while ``refusals`` collected it.

    Attributes:
        names: All names that it concerns.
        what: What is wrong with them, for messages.
        way_out: How to fix it.
    """

    names: tuple[str, ...]
    what: str
    way_out: str


_collected: ContextVar[list[Refused] | None] = ContextVar("refusals", default=None)


@contextmanager
def refusals() -> Iterator[list[Refused]]:
    """Context in which ``refuse`` adds to the list instead of raising, so that listing continues.

    Example:
        >>> with refusals() as found:
        ...     refuse(["a"], "image(s) without a label", "add it")
        >>> found[0].names
        ('a',)
    """
    collected: list[Refused] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def refuse(offenders: Sequence[str], what: str, way_out: str) -> None:
    """Raise ``InputError`` that counts the offenders and names the first five; silent if there are none.

    Within ``refusals`` it is collected instead, so callers leave out the offenders in what follows.
    """
    collected = _collected.get()
    if offenders and collected is not None:
        collected.append(Refused(tuple(offenders), what, way_out))
    elif offenders:
        raise InputError(f"{len(offenders)} {what}: {first_five(offenders)}; {way_out}")


def first_five(names: Sequence[str]) -> str:
    """The first five names, and dots if there are more."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
