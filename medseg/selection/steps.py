"""Post-processing that a selection tries: every step on every class, with several sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from statistics import median
from typing import Any

from medseg.geometry.grid import Grid
from medseg.inference.postprocess import ALL
from medseg.labels import LabelTable

_STEPS = {2: ("remove_small", "fill_holes", "sieve"), 3: ("keep_largest", "remove_small", "fill_holes")}
_CELLS = {2: (16, 64, 256), 3: (8, 64, 512)}
"""Sizes that are tried, in cells of the median case, by the number of axes."""
_SIZED = ("remove_small", "sieve")


def steps_to_try(
    labels: LabelTable,
    grids: Sequence[Grid],
    *,
    steps: Sequence[str] | None = None,
    sizes: Sequence[float] | None = None,
    unit: str | None = None,
) -> list[dict[str, Any]]:
    """Plain data of each step, as ``PostProcess.from_list`` takes it.

    Args:
        labels: Classes; without a background only a sieve can be taken.
        grids: Of the cases.
        steps: Names of the steps; None for those of the number of axes.
        sizes: Of ``remove_small`` and ``sieve``; None for some numbers of cells of the median case.
        unit: Of the sizes; None for that of the cases, or cells where they differ.

    Example:
        >>> table = LabelTable.declare({"background": 0, "liver": 1})
        >>> steps_to_try(table, [Grid.regular((9, 9, 9), (1, 1, 2))], steps=["remove_small"], sizes=[20])
        [{'step': 'remove_small', 'classes': ['liver'], 'size': 20.0, 'unit': 'mm3'}]
    """
    of_size = _sizes(grids, sizes, unit)
    return [
        {"step": step, **classes, **size}
        for step in (_STEPS[grids[0].ndim] if steps is None else steps)
        for classes in _classes(step, labels)
        for size in (of_size if step in _SIZED else [{}])
    ]


def _sizes(grids: Sequence[Grid], sizes: Sequence[float] | None, unit: str | None) -> list[dict[str, Any]]:
    """Each size with its unit."""
    ndim = grids[0].ndim
    units = {"px" if grid.unit == "px" else f"{grid.unit}{ndim}" for grid in grids}
    unit = unit or (units.pop() if len(units) == 1 else "px")
    cell = 1.0 if unit == "px" else median(prod(grid.spacing) for grid in grids)
    amounts = sizes or [float(f"{n * cell:.3g}") for n in _CELLS[ndim]]
    return [{"size": float(amount), "unit": unit} for amount in amounts]


def _classes(step: str, labels: LabelTable) -> list[dict[str, Any]]:
    """What a step is tried on: all foreground, and each class; a sieve has no classes."""
    if step == "sieve":
        return [{}]
    if not labels.background:
        return []
    names: list[dict[str, Any]] = [{"classes": [name]} for name, _ in labels.targets]
    return names if len(names) == 1 else [{"classes": ALL}, *names]


def title(step: Mapping[str, Any]) -> str:
    """A step in words.

    Example:
        >>> title({"step": "remove_small", "classes": "all", "size": 8.0, "unit": "mm3"})
        'remove_small of all foreground below 8 mm3'
    """
    classes = step.get("classes")
    of = "" if classes is None else " of all foreground" if classes == ALL else f" of {', '.join(classes)}"
    size = f" below {step['size']:g} {step['unit']}" if "size" in step else ""
    return f"{step['step']}{of}{size}"


def others(waiting: Mapping[str, dict[str, Any]], taken: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The steps that are left when one is taken: not the same on the same classes with another size."""
    key = (taken["step"], taken.get("classes"))
    return {name: step for name, step in waiting.items() if (step["step"], step.get("classes")) != key}
