"""Nodata values: the cells of a band that hold the value for cells without data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Shaped


def comparable(tag: float | None, stored: npt.DTypeLike) -> int | float | None:
    """The nodata value as a number that cells of the type ``stored`` are quickly compared with."""
    return int(tag) if tag is not None and np.dtype(stored).kind != "f" and float(tag).is_integer() else tag


def with_data(bands: Shaped[np.ndarray, "c *s"], values: Sequence[float | None]) -> list[Bool[np.ndarray, " *s"]]:
    """Where each band does not hold its nodata value; may be an empty list if no cell of any band does.

    Integers are compared exactly. Floats count as equal as near as GDAL takes them for equal; NaN is a
    nodata value like any other.

    Args:
        bands: Values as they are stored.
        values: The nodata value of each band, ``comparable``; None if it has none.

    Example:
        >>> with_data(np.array([[1, 0, 3]]), [0])[0].tolist()
        [True, False, True]
        >>> with_data(np.array([[1, 2, 3]]), [0])
        []
    """
    tags = [v for v in values if v is not None]
    if not tags or _beyond(bands, tags):
        return []
    return [_differ(band, value) for band, value in zip(bands, values, strict=True)]


def _beyond(cells: Shaped[np.ndarray, "..."], values: Sequence[float]) -> bool:
    """Whether integers are all larger, or all smaller, than any nodata value, which is quicker than comparing each."""
    return cells.dtype.kind in "iu" and bool(cells.min() > max(values) or cells.max() < min(values))


def _differ(cells: Shaped[np.ndarray, "..."], value: float | None) -> npt.NDArray[np.bool_]:
    if value is None or cells.dtype.kind != "f":
        return np.asarray(cells != value)
    if math.isnan(value):
        return ~np.isnan(cells)
    with np.errstate(over="ignore"):
        middle = cells.dtype.type(value)
        if np.isinf(middle):
            return np.asarray(cells != middle)
        slack = 2 * np.finfo(cells.dtype).eps * abs(middle)
        return np.asarray((cells < middle - slack) | (cells > middle + slack) | np.isnan(cells))
