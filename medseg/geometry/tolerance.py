"""Tolerance: the displacement up to which the grids of two files count as one."""

from __future__ import annotations

import math

from medseg.errors import InputError

GRID_TOLERANCE = 0.01
"""Largest displacement, in cells, by rounding of headers."""
LARGEST_GRID_TOLERANCE = 1.0
"""Largest tolerance, in cells; grids further apart are different places."""


def checked_tolerance(value: object, key: str) -> float:
    """The value, checked to be a displacement in cells that can be tolerated.

    Args:
        value: Value of the configuration.
        key: Key of the configuration, for messages.

    Raises:
        InputError: No number in [0, ``LARGEST_GRID_TOLERANCE``].
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST_GRID_TOLERANCE:
        raise InputError(
            f"{key}={value}: expected a displacement of 0 to {LARGEST_GRID_TOLERANCE:g} voxels; for a larger one, copy "
            "the geometry of the image if only a header is wrong, or resample the file"
        )
    return float(value)


def way_out(offset: float, key: str, *, model: str = "the image") -> str:
    """The fix for grids that lie ``offset`` cells apart; never above the largest tolerance.

    Args:
        offset: Finite displacement.
        key: Key of the tolerance in the configuration.
        model: The file whose geometry is right.

    Example:
        >>> way_out(0.123, "tolerance")
        'if only its header is wrong, copy the geometry of the image or set tolerance=0.13; if not, resample it'
        >>> way_out(60.7, "tolerance")
        'copy the geometry of the image if only its header is wrong, or resample it'
    """
    if offset > LARGEST_GRID_TOLERANCE:
        return f"copy the geometry of {model} if only its header is wrong, or resample it"
    digit = 10.0 ** (math.floor(math.log10(offset)) - 1)
    accepted = f"{math.ceil(offset / digit) * digit:.6g}"
    return f"if only its header is wrong, copy the geometry of {model} or set {key}={accepted}; if not, resample it"
