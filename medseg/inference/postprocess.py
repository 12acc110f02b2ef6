"""Post-processing: what is removed from or filled in the label map of a whole case, step after step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from medseg.errors import InputError, nearest
from medseg.geometry.grid import Grid
from medseg.inference.components import holes, largest_component, sieved, surrounding_class, without_small
from medseg.labels import IGNORE, LabelTable
from medseg.runtime.values import listed, mapped, number, shown, text

ALL = "all"
"""``classes`` of a step that takes every class but the background as one structure."""
UNITS = ("px", "mm3", "mm2", "m2")
"""Units of a size: cells, or the volume or area of cells in the unit of the grid."""


@dataclass(frozen=True)
class Structure:
    """Classes that a step takes as one.

    Attributes:
        members: Training indices of its classes.
        filled: Training index of a cell that is added; None: the class of most faces around the hole.
        removed: Training index of a cell that is removed: the background, or the region around a region.
    """

    members: tuple[int, ...]
    filled: int | None
    removed: int = 0

    def mask(self, index: Int[np.ndarray, " *s"]) -> Bool[np.ndarray, " *s"]:
        """Cells of the structure."""
        return np.isin(index, self.members)


def structure_of(name: str, labels: LabelTable) -> Structure:
    """A class; or a region with all its classes.

    A removed cell of a region takes the class that the smallest region around it paints, and is background where
    there is none: a removed part of a tumour's core remains tumour. A region that overlaps another one without lying
    in it takes the cells that both share from the other, too.

    Raises:
        InputError: Nothing of this name.
    """
    regions = {region.name: region for region in labels.regions}
    names = [target for target, _ in labels.targets]
    if name not in names:
        raise InputError(f"postprocessing: no class {shown(name, repr)}, expected of {names}; {nearest(name, names)}")
    if name not in regions:
        position = labels.names.index(name)
        return Structure((position,), position)
    own = regions[name]
    around = [r for r in labels.regions if set(r.members) > set(own.members) and r.paint not in own.members]
    outer = min(around, key=lambda r: len(r.members), default=None)
    return Structure(own.members, own.paint, outer.paint if outer else 0)


def _check_background(labels: LabelTable) -> None:
    if not labels.background:
        raise InputError(
            "postprocessing: the classes have no background that a removed cell could get; use the step sieve, which "
            "gives it the class of its largest neighbour"
        )


@dataclass(frozen=True)
class Step(ABC):
    """One step; its settings are the keys of its plain data."""

    step: ClassVar[str]

    @abstractmethod
    def __call__(self, index: Int[np.ndarray, " *s"], grid: Grid, labels: LabelTable) -> Int[np.ndarray, " *s"]:
        """The label map after the step; cells of ``IGNORE`` stay, and belong to no structure."""

    def check(self, labels: LabelTable) -> None:  # noqa: B027 - most tables are fine for a step without classes
        """Raise if the step can't be taken with these classes.

        Raises:
            InputError: An unknown class, or a table without a background where one is needed.
        """

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``PostProcess.from_list`` is its inverse."""
        return {"step": self.step, **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}}


@dataclass(frozen=True)
class OfStructures(Step):
    """A step on one structure after the other.

    Attributes:
        classes: Names of classes or regions, each a structure of its own; or ``ALL`` for one structure of all classes.
    """

    classes: tuple[str, ...] | str = ALL

    def __call__(self, index: Int[np.ndarray, " *s"], grid: Grid, labels: LabelTable) -> Int[np.ndarray, " *s"]:
        """See ``Step``."""
        for structure in self.structures(labels):
            index = self.change(index, structure, grid, labels).astype(index.dtype)
        return index

    def check(self, labels: LabelTable) -> None:
        """See ``Step``."""
        self.structures(labels)

    def structures(self, labels: LabelTable) -> list[Structure]:
        """What the step takes as one, each after the other.

        Raises:
            InputError: As ``check``.
        """
        _check_background(labels)
        if self.classes == ALL:
            return [Structure(tuple(range(1, labels.n_classes)), None)]
        return [structure_of(name, labels) for name in self.classes]

    @abstractmethod
    def change(
        self, index: Int[np.ndarray, " *s"], structure: Structure, grid: Grid, labels: LabelTable
    ) -> Int[np.ndarray, " *s"]:
        """The label map after the step on one structure."""


@dataclass(frozen=True)
class KeepLargest(OfStructures):
    """Removes all but the largest component of each structure; cells that touch at a corner are connected."""

    step = "keep_largest"

    def change(
        self, index: Int[np.ndarray, " *s"], structure: Structure, grid: Grid, labels: LabelTable
    ) -> Int[np.ndarray, " *s"]:
        """See the class."""
        mask = structure.mask(index)
        return np.where(mask & ~largest_component(mask), structure.removed, index)


@dataclass(frozen=True)
class RemoveSmall(OfStructures):
    """Removes components smaller than a size; cells that touch at a corner are connected.

    Attributes:
        size: Of the smallest component that stays.
        unit: One of ``UNITS``.
    """

    step = "remove_small"
    size: float = 0.0
    unit: str = "px"

    def change(
        self, index: Int[np.ndarray, " *s"], structure: Structure, grid: Grid, labels: LabelTable
    ) -> Int[np.ndarray, " *s"]:
        """See the class."""
        mask = structure.mask(index)
        removed = mask & ~without_small(mask, cells_of(self.size, self.unit, grid))
        return np.where(removed, structure.removed, index)


@dataclass(frozen=True)
class FillHoles(OfStructures):
    """Fills background that a structure encloses; cells of other classes in a hole stay.

    A region also takes what is enclosed of the region around it. A hole of all classes together gets the class of
    most faces around it. What is connected to the border of the image, or to a cell of ``IGNORE``, is no hole.
    """

    step = "fill_holes"

    def change(
        self, index: Int[np.ndarray, " *s"], structure: Structure, grid: Grid, labels: LabelTable
    ) -> Int[np.ndarray, " *s"]:
        """See the class."""
        found = holes(structure.mask(index), index == IGNORE)
        free = (found > 0) & ((index == 0) | (index == structure.removed))
        if structure.filled is not None:
            return np.where(free, structure.filled, index)
        return np.where(free, surrounding_class(index, found, labels.n_classes)[found], index)


@dataclass(frozen=True)
class Sieve(Step):
    """Gives patches smaller than a size the class of their largest neighbour; for maps, of any table.

    Attributes:
        size: Of the smallest patch that stays, connected by faces.
        unit: One of ``UNITS``.
    """

    step = "sieve"
    size: float = 0.0
    unit: str = "px"

    def __call__(self, index: Int[np.ndarray, " *s"], grid: Grid, labels: LabelTable) -> Int[np.ndarray, " *s"]:
        """See the class."""
        return sieved(index, cells_of(self.size, self.unit, grid))


STEPS: Mapping[str, type[Step]] = {cls.step: cls for cls in (KeepLargest, RemoveSmall, FillHoles, Sieve)}
"""The steps by their names."""


def cells_of(size: float, unit: str, grid: Grid) -> float:
    """A size in cells of a grid.

    Raises:
        InputError: A unit that is not the grid's.

    Example:
        >>> round(cells_of(12.0, "mm3", Grid.regular((4, 4, 4), (1, 1, 3))), 3)
        4.0
    """
    if unit == "px":
        return size
    own = f"{grid.unit}{grid.ndim}"
    if unit != own:
        expected = "px" if grid.unit == "px" else f"{own} or px"
        raise InputError(f"postprocessing: got a size in {unit}, the cells of the image have {expected}; use this unit")
    return size / float(np.prod(grid.spacing)) * (1 - 1e-9)  # a component of just this size stays


@dataclass(frozen=True)
class PostProcess:
    """Steps that follow the decision, in their order, on the label map of a whole case.

    Attributes:
        steps: The steps; none changes nothing.
    """

    steps: tuple[Step, ...] = ()

    def __call__(
        self,
        index: Int[np.ndarray, " *s"],
        grid: Grid,
        labels: LabelTable,
        valid: Bool[np.ndarray, " *s"] | None = None,
    ) -> Int[np.ndarray, " *s"]:
        """The label map after all steps.

        Args:
            index: Training index of each cell, or ``IGNORE``, which stays and belongs to no structure.
            grid: Of the cells; sizes in mm3, mm2 or m2 need its spacing.
            labels: Meaning of the indices.
            valid: False for cells that are taken as ``IGNORE``; they keep the index that they have.

        Raises:
            InputError: A size in another unit than the grid's.
        """
        known = index if valid is None else np.where(valid, index, IGNORE).astype(index.dtype)
        for step in self.steps:
            known = step(known, grid, labels)
        return known if valid is None else np.where(valid, known, index)

    @classmethod
    def from_list(cls, steps: object, labels: LabelTable) -> PostProcess:
        """Steps of plain data, such as ``{"step": "remove_small", "classes": ["liver"], "size": 20, "unit": "mm3"}``.

        Args:
            steps: Anything that a file may hold; a list of such mappings is right.
            labels: Classes that the steps may name.

        Raises:
            InputError: An unknown step, key, class or unit, or a size that is no positive number.
        """
        return cls(tuple(_step_of(entry, labels) for entry in listed(steps, "postprocessing")))

    def to_list(self) -> list[dict[str, Any]]:
        """Plain data; ``from_list`` is its inverse."""
        return [step.to_dict() for step in self.steps]


def _step_of(entry: object, labels: LabelTable) -> Step:
    stored = mapped(entry, "postprocessing", ["step"])
    name = stored.pop("step")
    if not isinstance(name, str) or name not in STEPS:
        raise InputError(f"postprocessing: no step {shown(name, repr)}, expected one of {', '.join(STEPS)}")
    empty = STEPS[name]()
    keys = [key for key in empty.to_dict() if key != "step"]
    settings = mapped(stored, f"postprocessing.{name}", keys, keys)
    if "classes" in settings and settings["classes"] != ALL:
        key = f"postprocessing.{name}.classes"
        settings["classes"] = tuple(text(one, key) for one in listed(settings["classes"], key))
    if "size" in settings:
        settings["size"] = number(settings["size"], f"postprocessing.{name}.size", above=0)
    if settings.get("unit", "px") not in UNITS:
        raise InputError(f"postprocessing.{name}.unit={shown(settings['unit'])}: expected one of {', '.join(UNITS)}")
    step = replace(empty, **settings)
    step.check(labels)
    return step
