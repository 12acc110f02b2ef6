"""Declared: ``name: value`` or ``name: [values]`` sorted into classes, regions and values to ignore."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.errors import BadInput
from medseg.labels.classes import Region


def by_name(labels: Mapping[Any, Any] | Sequence[str]) -> dict[str, int | Sequence[int]]:
    """Labels as ``name: value``, whichever way round they were declared.

    ``{0: background, 1: liver}`` (the Decathlon's order) and ``[background, liver]``, which counts from 0, mean
    ``{background: 0, liver: 1}``.

    Raises:
        BadInput: A name that stands for two values, or what is neither names with integers nor integers with names.

    Example:
        >>> by_name({0: "background", 1: "liver"}) == by_name(["background", "liver"])
        True
    """
    if not isinstance(labels, Mapping):
        labels = dict(enumerate(labels))
    keys, values = list(labels), list(labels.values())
    if keys and all(_is_integer(k) for k in keys) and all(isinstance(v, str) and not _is_integer(v) for v in values):
        twice = sorted({v for v in values if values.count(v) > 1})
        if twice:
            raise BadInput(
                f"data.labels: {twice} stand for more than one value in {dict(labels)}; list the values of a class, "
                f"as in {{{twice[0]}: [1, 2]}}"
            )
        return {name: int(value) for value, name in labels.items()}
    wrong = {
        name: value
        for name, value in labels.items()
        if not isinstance(name, str) or not all(_is_integer(v) for v in (value if _is_list(value) else [value]))
    }
    if wrong:
        raise BadInput(
            f"data.labels: got {wrong}, expected class names with integer values, such as {{background: 0, liver: 1}}, "
            "or integers with class names, such as {0: background, 1: liver}"
        )
    return {str(name): value for name, value in labels.items()}


def _is_integer(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"-?\d+", value) is not None
    return (
        not isinstance(value, bool) and isinstance(value, (int, float, np.integer, np.floating)) and value == int(value)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def grouped(
    labels: Mapping[Any, Any] | Sequence[str],
    regions_class_order: Sequence[int] | None,
    *,
    merge: bool,
    background: str | None,
) -> tuple[dict[str, tuple[int, ...]], tuple[Region, ...], tuple[int, ...]]:
    """Classes with their raw values in the order of training indices, regions of them, and raw values to ignore.

    Arguments are those of ``LabelTable.declare``.

    Raises:
        BadInput: No such background, or an incomplete region order.
    """
    entries = {name: _values(value) for name, value in by_name(labels).items()}
    ignore = tuple(v for name, values in entries.items() if name == "ignore" for v in values)
    entries.pop("ignore", None)
    groups: dict[str, tuple[int, ...]] = {}
    if background is not None:
        zero = next((n for n, v in entries.items() if v == (0,)), None)
        first = background if background in entries else zero
        if first is None:
            raise BadInput(f"label table: no background (value 0) among {by_name(labels)}")
        groups[first] = entries.pop(first)
    if merge or all(len(v) == 1 for v in entries.values()):
        groups |= dict(sorted(entries.items(), key=lambda item: item[1]))
        regions: tuple[Region, ...] = ()
    else:
        single = {v[0]: n for n, v in entries.items() if len(v) == 1}
        raw = sorted({v for values in entries.values() for v in values})
        groups |= {single.get(v, f"value_{v}"): (v,) for v in raw}
        regions = _regions(entries, list(groups.values()), regions_class_order)
    return groups, regions, ignore


def _values(value: Any) -> tuple[int, ...]:
    values = tuple(value) if _is_list(value) else (value,)
    return tuple(int(v) for v in values)


def _regions(
    entries: Mapping[str, tuple[int, ...]], groups: list[tuple[int, ...]], order: Sequence[int] | None
) -> tuple[Region, ...]:
    if order is None or len(order) != len(entries):
        raise BadInput(
            f"label table: regions {list(entries)} need regions_class_order with {len(entries)} raw values "
            f"(the value each region paints, in order), came {order}"
        )
    index = {v: i for i, values in enumerate(groups) for v in values}
    missing = [v for v in order if v not in index]
    if missing:
        raise BadInput(f"label table: regions_class_order names {missing}, raw values are {sorted(index)}")
    return tuple(
        Region(n, tuple(index[v] for v in vs), index[p]) for (n, vs), p in zip(entries.items(), order, strict=True)
    )


def suspected_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Class names that differ only in left/right, so that a mirror would confuse them.

    Example:
        >>> suspected_pairs(["background", "left kidney", "right kidney", "bright spot"])
        [('left kidney', 'right kidney')]
    """
    sides = {"left": "right", "l": "r", "lh": "rh"}
    found = []
    for name in names:
        words = re.split(r"([ _\-.]+)", name)
        for i, word in enumerate(words):
            other = sides.get(word.lower())
            mirrored = "".join([*words[:i], other or word, *words[i + 1 :]]).lower()
            found += [(name, n) for n in names if other and n.lower() == mirrored]
    return found
