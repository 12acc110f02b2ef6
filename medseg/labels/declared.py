"""Declared: ``name: value`` or ``name: [values]`` sorted into classes, regions and values to ignore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.errors import InputError
from medseg.labels.classes import Region
from medseg.labels.laterality import laterality
from medseg.runtime.values import shown

_SUCH = "{background: 0, tumour: 1}"


def by_name(labels: Mapping[Any, Any] | Sequence[str]) -> dict[str, int | Sequence[int]]:
    """Labels as ``name: value``, whichever way round they were declared.

    ``{0: background, 1: liver}`` (the Decathlon's order) and ``[background, liver]``, which counts from 0, mean
    ``{background: 0, liver: 1}``.

    Raises:
        InputError: A name that stands for two values, or what is neither names with integers nor integers with names.

    Example:
        >>> by_name({0: "background", 1: "liver"}) == by_name(["background", "liver"])
        True
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, (Mapping, Sequence)):
        raise InputError(f"label table: got {shown(labels)}, expected names with values, such as {_SUCH}")
    if not isinstance(labels, Mapping):
        labels = dict(enumerate(labels))
    keys, values = list(labels), list(labels.values())
    if keys and all(_is_whole(k) for k in keys) and all(isinstance(v, str) and not _is_whole(v) for v in values):
        twice = sorted({v for v in values if values.count(v) > 1})
        if twice:
            raise InputError(
                f"data.labels: {twice} stand for more than one value in {dict(labels)}; list the values of a class, "
                f"as in {{{twice[0]}: [1, 2]}}"
            )
        return {name: int(value) for value, name in labels.items()}
    if unnamed := {name: value for name, value in labels.items() if not isinstance(name, str)}:
        raise InputError(
            f"data.labels: got {shown(unnamed)}, expected class names with integer values, such as {_SUCH}, or "
            "integers with class names, such as {0: background, 1: liver}"
        )
    for name, value in labels.items():
        listed = list(value) if _is_list(value) else [value]
        if not listed or not all(_is_whole(v) for v in listed):
            raise InputError(
                f"label table: {name} has the value {shown(value)}, expected a whole number or a list of them, such as "
                f"{_SUCH}"
            )
    return {str(name): value for name, value in labels.items()}


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and _whole(value) is not None


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
        InputError: No such background, or an incomplete region order.
    """
    entries = {name: _values(value) for name, value in by_name(labels).items()}
    ignore = tuple(v for name, values in entries.items() if name == "ignore" for v in values)
    entries.pop("ignore", None)
    groups: dict[str, tuple[int, ...]] = {}
    if background is not None:
        zero = next((n for n, v in entries.items() if v == (0,)), None)
        first = background if background in entries else zero
        if first is None:
            raise InputError(f"label table: no background (value 0) among {by_name(labels)}")
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
    """The raw values of a class, of which ``by_name`` made sure that they are whole numbers."""
    values = tuple(value) if _is_list(value) else (value,)
    return tuple(int(v) for v in values)


def _whole(value: Any) -> int | None:
    """A whole number, also written as text or with a point; None for anything else."""
    if not isinstance(value, (int, np.integer, float, str)):
        return None
    try:
        return int(value) if isinstance(value, str) or int(value) == value else None
    except (ValueError, OverflowError):  # of words, NaN and infinity
        return None


def _regions(
    entries: Mapping[str, tuple[int, ...]], groups: list[tuple[int, ...]], order: Sequence[int] | None
) -> tuple[Region, ...]:
    if not isinstance(order, Sequence) or isinstance(order, str) or len(order) != len(entries):
        raise InputError(
            f"label table: regions {list(entries)} need regions_class_order with {len(entries)} raw values "
            f"(the value each region paints, in order), got {shown(order)}"
        )
    index = {v: i for i, values in enumerate(groups) for v in values}
    missing = [v for v in order if not isinstance(v, (int, np.integer)) or v not in index]
    if missing:
        raise InputError(f"label table: regions_class_order names {missing}, raw values are {sorted(index)}")
    return tuple(
        Region(n, tuple(index[v] for v in vs), index[p]) for (n, vs), p in zip(entries.items(), order, strict=True)
    )


def declared_pairs(pairs: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Training indices of (left, right) class names.

    Raises:
        InputError: No class of such a name, not two of them, or a class in two pairs.
    """
    entries = [[pair] if isinstance(pair, str) else list(pair) for pair in pairs]
    unknown = [n for pair in entries for n in pair if n not in names]
    if unknown:
        raise InputError(f"label table: left/right pairs name {unknown}, classes are {list(names)}")
    every = [n for pair in entries for n in pair]
    if any(len(pair) != 2 for pair in entries) or len(set(every)) != len(every):
        raise InputError(
            f"label table: left/right pairs are {entries}, expected two class names in each and each name once, as in "
            "[[left kidney, right kidney]]"
        )
    return tuple((names.index(left), names.index(right)) for left, right in entries)


def detected(names: Sequence[str], regions: Sequence[Region]) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """(pairs of training indices, one-sided names) that the names of classes and regions tell.

    A region is one-sided, too, if exchanging the pairs does not turn it into its partner (or, if it has no side,
    into some region): then nothing that the network gives stands for its mirror image.

    Args:
        names: Of the classes, by training index.
        regions: Of these classes.

    Example:
        >>> detected(["background", "left kidney", "right kidney", "left lung"], [])
        (((1, 2),), ('left lung',))
    """
    found, sides = laterality(names), laterality([r.name for r in regions])
    pairs = tuple((names.index(left), names.index(right)) for left, right in found.pairs)
    swap = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    members = {r.name: frozenset(r.members) for r in regions}
    partner = {a: b for pair in sides.pairs for a, b in (pair, pair[::-1])}
    unmatched = [
        name
        for name, own in members.items()
        if frozenset(swap.get(m, m) for m in own)
        not in ([members[partner[name]]] if name in partner else members.values())
    ]
    one_sided = dict.fromkeys([*found.one_sided, *sides.one_sided, *unmatched])
    return pairs, tuple(one_sided)
