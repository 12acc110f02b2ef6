"""Blocks of rows, so that intermediate arrays of a large case stay small; what is counted in blocks adds up exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

CELLS = 2**22
"""Cells of a block: 32 MiB of eight bytes each."""


def row_blocks(shape: Sequence[int], *, least_rows: int = 1) -> Iterator[slice]:
    """Rows (cells along axis 0) of an array, in blocks of about ``CELLS`` cells.

    Args:
        shape: Of the array.
        least_rows: Rows of a block at least.

    Example:
        >>> [(rows.start, rows.stop) for rows in row_blocks((5000, 1024))]
        [(0, 4096), (4096, 5000)]
    """
    rows = max(least_rows, CELLS // max(1, prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))
