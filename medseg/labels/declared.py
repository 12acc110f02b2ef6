"""Declared labels, ``name: value`` or ``name: [values]``, as classes, regions and values to ignore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from medseg.errors import InputError
from medseg.labels.classes import Region
from medseg.labels.laterality import laterality
from medseg.runtime.values import shown

_T = TypeVar("_T")
_SUCH = "{background: 0, tumour: 1}"


def by_name(labels: Mapping[Any, Any] | Sequence[str]) -> dict[str, int | Sequence[int]]:
    """Labels as ``name: value``, from a declaration in either order.

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
    mapping: Mapping[Any, Any] = labels if isinstance(labels, Mapping) else dict(enumerate(labels))
    if _is_by_value(mapping):
        return _inverted(mapping)
    if unnamed := {name: value for name, value in mapping.items() if not isinstance(name, str)}:
        raise InputError(
            f"data.labels: got {shown(unnamed)}, expected class names with integer values, such as {_SUCH}, or "
            "integers with class names, such as {0: background, 1: liver}"
        )
    for name, value in mapping.items():
        _check_values(name, value)
    return {str(name): value for name, value in mapping.items()}


def _is_by_value(labels: Mapping[object, object]) -> bool:
    """Whether labels are ``value: name``."""
    names = labels.values()
    return bool(labels) and all(map(_is_whole, labels)) and all(isinstance(n, str) and not _is_whole(n) for n in names)


def _inverted(labels: Mapping[Any, Any]) -> dict[str, int | Sequence[int]]:
    """``value: name`` as ``name: value``.

    Raises:
        InputError: A name of several values.
    """
    names = list(labels.values())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(
            f"data.labels: {repeated} stand for more than one value in {dict(labels)}; list the values of a class, "
            f"as in {{{repeated[0]}: [1, 2]}}"
        )
    return {name: int(value) for value, name in labels.items()}


def _check_values(name: Any, value: Any) -> None:
    """Raise unless the value of a class is a whole number or a list of them."""
    values = list(value) if _is_list(value) else [value]
    if not values or not all(map(_is_whole, values)):
        raise InputError(
            f"label table: {name} has the value {shown(value)}, expected a whole number or a list of them, such as "
            f"{_SUCH}"
        )


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number, also one written as text."""
    return not isinstance(value, bool) and _whole(value) is not None


def _is_list(value: object) -> bool:
    """Whether a value is a list of values."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def _background(name: str, entries: Mapping[str, tuple[int, ...]], declared: object) -> str:
    """The class of this name, or else the one of value 0."""
    first = name if name in entries else _zero(entries)
    if first is None:
        raise InputError(f"label table: no background (value 0) among {declared}")
    return first


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
    declared = by_name(labels)
    entries = {name: _values(value) for name, value in declared.items()}
    ignore = tuple(v for name, values in entries.items() if name == "ignore" for v in values)
    entries.pop("ignore", None)
    groups: dict[str, tuple[int, ...]] = {}
    if background is not None:
        first = _background(background, entries, declared)
        groups[first] = entries.pop(first)
    if merge or all(len(v) == 1 for v in entries.values()):
        return groups | dict(sorted(entries.items(), key=lambda item: item[1])), (), ignore
    groups |= _single_values(entries)
    return groups, _regions(entries, list(groups.values()), regions_class_order), ignore


def _zero(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """Name of the class of the value 0 alone, if there is one."""
    return next((name for name, values in entries.items() if values == (0,)), None)


def _single_values(entries: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """A class for each raw value of regions, under the name of the region of this value alone, or ``value_1``."""
    names = {values[0]: name for name, values in entries.items() if len(values) == 1}
    raw = sorted({v for values in entries.values() for v in values})
    return {names.get(v, f"value_{v}"): (v,) for v in raw}


def _values(value: Any) -> tuple[int, ...]:
    """The raw values of a class, whole numbers as ``by_name`` checked."""
    values = tuple(value) if _is_list(value) else (value,)
    return tuple(int(v) for v in values)


def _whole(value: object) -> int | None:
    """A whole number, also written as text or with a point; None for anything else."""
    if not isinstance(value, (int, np.integer, float, str)):
        return None
    try:
        return int(value) if isinstance(value, str) or int(value) == value else None
    except (ValueError, OverflowError):  # of words, NaN and infinity
        return None


def _painted(entries: Mapping[str, tuple[int, ...]], order: Sequence[int] | None) -> tuple[int, ...]:
    """The raw value that each region paints, in order.

    Raises:
        InputError: Not one for each region.
    """
    painted = tuple(order) if order is not None and _is_list(order) else ()
    if len(painted) != len(entries):
        raise InputError(
            f"label table: regions {list(entries)} need regions_class_order with {len(entries)} raw values "
            f"(the value each region paints, in order), got {shown(order)}"
        )
    return painted


def _regions(
    entries: Mapping[str, tuple[int, ...]], groups: list[tuple[int, ...]], order: Sequence[int] | None
) -> tuple[Region, ...]:
    """Regions of several raw values, in painting order.

    Raises:
        InputError: An incomplete order, or raw values in it that no region has.
    """
    painted = _painted(entries, order)
    index = {v: i for i, values in enumerate(groups) for v in values}
    missing = [v for v in painted if not isinstance(v, (int, np.integer)) or v not in index]
    if missing:
        raise InputError(f"label table: regions_class_order names {missing}, raw values are {sorted(index)}")
    return tuple(
        Region(name, tuple(map(index.__getitem__, values)), index[paint])
        for (name, values), paint in zip(entries.items(), painted, strict=True)
    )


def declared_pairs(pairs: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Training indices of (left, right) class names.

    Raises:
        InputError: No class of such a name, not two of them, or a class in two pairs.
    """
    entries = [[pair] if isinstance(pair, str) else list(pair) for pair in pairs]
    _check_pairs(entries, names)
    return tuple((names.index(left), names.index(right)) for left, right in entries)


def _check_pairs(entries: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """Raise on names of no class, on entries of another number than two, and on a class in two pairs."""
    members = [name for pair in entries for name in pair]
    unknown = [name for name in members if name not in names]
    if unknown:
        raise InputError(f"label table: left/right pairs name {unknown}, classes are {list(names)}")
    if any(len(pair) != 2 for pair in entries) or len(set(members)) != len(members):
        raise InputError(
            f"label table: left/right pairs are {entries}, expected two class names in each and each name once, as in "
            "[[left kidney, right kidney]]"
        )


def detected(names: Sequence[str], regions: Sequence[Region]) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """(pairs of training indices, one-sided names), by the names of classes and regions.

    A region is one-sided, too, if exchanging the pairs does not turn it into its partner (or, if it has no side,
    into some region): then no output of the network is its mirror image.

    Args:
        names: Names of the classes, by training index.
        regions: Regions of these classes.

    Example:
        >>> detected(["background", "left kidney", "right kidney", "left lung"], [])
        (((1, 2),), ('left lung',))
    """
    of_classes, of_regions = laterality(names), laterality([r.name for r in regions])
    pairs = tuple((names.index(left), names.index(right)) for left, right in of_classes.pairs)
    swap, partners = _exchange(pairs), _exchange(of_regions.pairs)
    members = {r.name: frozenset(r.members) for r in regions}
    unmatched = []
    for name, own in members.items():
        mirrored = frozenset(swap.get(m, m) for m in own)
        images = [members[partners[name]]] if name in partners else members.values()
        if mirrored not in images:
            unmatched.append(name)
    one_sided = dict.fromkeys([*of_classes.one_sided, *of_regions.one_sided, *unmatched])
    return pairs, tuple(one_sided)


def _exchange(pairs: Sequence[tuple[_T, _T]]) -> dict[_T, _T]:
    """The other member of each pair."""
    return {a: b for left, right in pairs for a, b in ((left, right), (right, left))}
