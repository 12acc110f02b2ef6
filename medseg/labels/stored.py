"""The stored (JSON-able) form of classes, regions and pairs, checked as it is read."""

from __future__ import annotations

from collections.abc import Sequence

from medseg.errors import InputError
from medseg.labels.classes import LabelClass, Region
from medseg.runtime.values import listed, mapped, shown, text, whole

RAW = (-(1 << 63), (1 << 64) - 1)
"""Least and largest raw value that an array of integers can hold."""
SAVED = (-(1 << 31), (1 << 32) - 1)
"""Least and largest value that a label file can hold; if any is negative, the largest is 2^31 - 1."""


def class_of(stored: object) -> LabelClass:
    """A class of its stored form."""
    fields = mapped(stored, "labels.classes", ["name", "values", "saved", "colour"])
    values = wholes(fields["values"], "labels.classes.values", *RAW)
    if not values:
        raise InputError(f"labels.classes: {shown(fields['name'])} has no value")
    red, green, blue = wholes(fields["colour"], "labels.classes.colour", 0, 255, length=(3,))
    saved = whole(fields["saved"], "labels.classes.saved", *SAVED)
    return LabelClass(text(fields["name"], "labels.classes.name"), values, saved, (red, green, blue))


def region_of(stored: object, last: int) -> Region:
    """A region of its stored form, where ``last`` is the largest training index."""
    fields = mapped(stored, "labels.regions", ["name", "members", "paint"])
    members = wholes(fields["members"], "labels.regions.members", 0, last)
    return Region(
        text(fields["name"], "labels.regions.name"), members, whole(fields["paint"], "labels.regions", 0, last)
    )


def pair_of(stored: object, last: int) -> tuple[int, int]:
    """Training indices of a pair of its stored form, where ``last`` is the largest."""
    left, right = wholes(stored, "labels.pairs", 0, last, length=(2,))
    return left, right


def wholes(stored: object, key: str, least: int, most: int, length: Sequence[int] = ()) -> tuple[int, ...]:
    """Whole numbers of a stored list, each in [least, most]; ``length`` lists the accepted lengths."""
    return tuple(whole(v, key, least, most) for v in listed(stored, key, length))
