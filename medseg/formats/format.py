"""Format: one kind of image file; derive from it to read and write files that medseg does not know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Shaped

from medseg.errors import InputError
from medseg.formats.source import Source
from medseg.geometry.grid import PIXEL, RAS_MM, Grid
from medseg.labels import LabelTable

Kind = Literal["volume", "scene", "image"]
"""``volume``: 3 axes in ``RAS_MM``; ``scene``: 2 axes in a CRS or ``PIXEL``; ``image``: 2 axes in ``PIXEL``."""

_LABEL_SUFFIXES: dict[Kind, str] = {"volume": ".nii.gz", "scene": ".tif", "image": ".png"}


@dataclass(frozen=True)
class OpenOptions:
    """How a file is read; formats ignore the options that they have no use for.

    Attributes:
        alpha: Whether a band that is tagged as alpha is validity; else it is a channel.
    """

    alpha: bool = True


@dataclass(frozen=True)
class WriteOptions:
    """What a file holds besides cells and grid; formats ignore the options that they do not hold.

    Attributes:
        like: File of the same format and grid whose header is kept.
        labels: Meaning of the values.
        nodata: Value for the nodata tag.
        names: Names of the channels.
    """

    like: Path | None = None
    labels: LabelTable | None = None
    nodata: float | None = None
    names: tuple[str, ...] = ()


class Format(ABC):
    """One kind of image file: its suffixes, and how it is read and written.

    A package of its own declares it by an entry point for each suffix, whose name is the suffix::

        [project.entry-points."medseg.formats"]
        ".npy" = "my_package.npy:Npy"

    Inside medseg, a module in ``medseg/formats/builtin`` is enough. The module is imported to find out which suffixes
    there are, so import libraries in the methods. Instances are created without arguments, as often as needed.

    Attributes:
        suffixes: Suffixes of its files, in lower case and with the dot.
        kind: What its files hold.
        written: Those of the suffixes that can be written.
        unwritten: Reason why the others are not written, for the message.
        many_channels: Whether a file can have several channels when it is written.
    """

    suffixes: ClassVar[tuple[str, ...]]
    kind: ClassVar[Kind]
    written: ClassVar[tuple[str, ...]] = ()
    unwritten: ClassVar[str] = ""
    many_channels: ClassVar[bool] = False

    @abstractmethod
    def open(self, path: Path, options: OpenOptions) -> Source:
        """Read the header of a file.

        Args:
            path: Existing file that ends in one of ``suffixes``.
            options: How it is read.

        Raises:
            InputError: The file is damaged, or holds something else; names the path.
        """

    def write(self, path: Path, cells: Shaped[np.ndarray, "c *s"], grid: Grid, options: WriteOptions) -> None:
        """Write a file; called for suffixes in ``written`` only, with a draft that is renamed when it is complete.

        Args:
            path: New file, in an existing folder.
            cells: Cells, never bool or float16; one channel unless ``many_channels``.
            grid: Geometry that ``check_grid`` accepted, of the same shape.
            options: What else the file holds.
        """
        raise NotImplementedError(f"{type(self).__name__} does not write")

    def check_cells(self, path: Path, cells: Shaped[np.ndarray, "c *s"], options: WriteOptions) -> None:
        """Check that a file can hold the cells.

        Raises:
            InputError: Number of channels, type or values that the format does not hold; names the path.
        """
        del path, cells, options

    def companions(self, path: Path) -> list[Path]:
        """Existing files that are read together with ``path``, without it, in a fixed order; they count in hashes."""
        return []

    def label_suffix(self, suffix: str) -> str:
        """Suffix of the label file for an image whose suffix is ``suffix``: the same one if it can be written."""
        return suffix if suffix in self.written else _LABEL_SUFFIXES[self.kind]

    def check_grid(self, path: Path, suffix: str, grid: Grid) -> None:
        """Check that a file can hold the grid.

        Raises:
            InputError: Axes or frame of another kind of file; names a suffix that holds them.
        """
        stem = path.name[: len(path.name) - len(suffix)]
        start = f"{path}: got a grid of {grid.ndim} axes in frame {grid.frame[:40]!r}"
        if self.kind == "volume" and (grid.ndim != 3 or grid.frame != RAS_MM):
            raise InputError(f"{start}, volume files hold 3 axes in {RAS_MM!r}; write to an image format")
        if self.kind != "volume" and (grid.ndim != 2 or grid.frame == RAS_MM):
            raise InputError(f"{start}, {suffix} holds 2 axes in a CRS or {PIXEL!r}; write to {stem}.nii.gz")
        if self.kind == "image" and grid.frame != PIXEL:
            raise InputError(f"{start}, which {suffix[1:].upper()} cannot keep; write to {stem}.tif")


def check_format(declared: object, suffix: str, source: str) -> Format:
    """The instance of a ``Format`` class that was declared for a suffix.

    Args:
        declared: The declared class.
        suffix: Suffix that it was declared for.
        source: Name of the module or plug-in, for messages.

    Raises:
        InputError: It is no complete subclass of ``Format``, or one for other suffixes.
    """
    if not (isinstance(declared, type) and issubclass(declared, Format)):
        raise InputError(f"{source}: got {str(declared)[:80]}, expected a class derived from medseg.formats.Format")
    if missing := [name for name in ("suffixes", "kind") if not hasattr(declared, name)]:
        raise InputError(f"{source}: {declared.__name__} has no {' and no '.join(missing)}, expected class attributes")
    if suffix not in declared.suffixes:
        raise InputError(
            f"{source}: {declared.__name__}.suffixes are {list(declared.suffixes)}, expected {suffix} to be one"
        )
    if declared.kind not in _LABEL_SUFFIXES:
        kinds = ", ".join(_LABEL_SUFFIXES)
        raise InputError(f"{source}: {declared.__name__}.kind is {declared.kind!r}, expected one of {kinds}")
    if missing := _missing_methods(declared):
        raise InputError(f"{source}: {declared.__name__} lacks the method {missing[0]}")
    return declared()


def _missing_methods(declared: type[Format]) -> list[str]:
    """Methods that a format needs and does not have; ``write`` if it has suffixes in ``written``."""
    writes = bool(declared.written) and declared.write is Format.write
    return sorted(getattr(declared, "__abstractmethods__", ())) + ["write"] * writes
