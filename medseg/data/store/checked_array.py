"""A chunked array of the store whose chunks are held to their checksums when they are first read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import blosc2
import numpy as np
from jaxtyping import Shaped

MOST_MAPPED = 256
"""Arrays that a process maps into memory at once, as each holds a file open: systems permit 1024 by default. Further
ones are read from their files, of which blosc2 keeps a few open."""


class CheckedArray:
    """An array ``[..., *s]`` of which windows are read; a chunk that differs from what was written is refused.

    blosc2 has no checksums: of single bits that flip in a file, most would be read as other cells. Each chunk is
    compared, compressed as it lies in the file, when a window of this process first touches it; further windows cost
    nothing more. Files are mapped into memory: random windows of 80^3 of 160^3 come in 0.82 of the time that reads from
    the file take. So with the comparison the first epoch takes 1.17 of the time of unchecked reads from the file, later
    ones 0.82, and ten together 0.85 (two cores of an Intel Xeon, ``scripts/bench_store_checks.py``).

    Attributes:
        shape: Cells on each axis.

    Args:
        path: A ``.b2nd`` file.
        record: Result of ``record_of`` when it was written.

    Raises:
        ValueError: The file is of another form than it was written in.
    """

    _mapped: ClassVar[WeakSet[CheckedArray]] = WeakSet()

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        mapped = len(self._mapped) < MOST_MAPPED
        # one thread decodes: threads of blosc2 do not outlive a fork, and whatever forks this process would wait for
        # them for ever
        self._array = blosc2.open(
            str(path), mode="r", dparams={"nthreads": 1}, **({"mmap_mode": "r"} if mapped else {})
        )
        if mapped:
            self._mapped.add(self)
        if not isinstance(self._array, blosc2.NDArray):
            raise ValueError(f"{path.name} holds {type(self._array).__name__}, expected an array")
        form = _form_of(self._array)
        expected = {key: record[key] for key in form}
        if form != expected:
            raise ValueError(f"the array is {form}, expected {expected}")
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self._checksums = [int(value) for value in record["crc32"]]
        self._unread = np.ones([-(-n // c) for n, c in zip(self.shape, self._array.chunks, strict=True)], dtype=bool)
        if len(self._checksums) != self._unread.size:
            raise ValueError(f"{len(self._checksums)} checksums, expected {self._unread.size}")

    def __getitem__(self, window: tuple[slice, ...]) -> Shaped[np.ndarray, "..."]:
        """Cells of a window: slices with steps of 1, which lie inside the array.

        Raises:
            ValueError: A chunk that it touches was altered.
        """
        self._check(window)
        cells: Shaped[np.ndarray, "..."] = self._array[window]
        return cells

    def _check(self, window: tuple[slice, ...]) -> None:
        ranges = [s.indices(n)[:2] for s, n in zip(window, self.shape, strict=True)]
        if any(start >= stop for start, stop in ranges):
            return
        touched = tuple(
            slice(start // c, (stop - 1) // c + 1) for (start, stop), c in zip(ranges, self._array.chunks, strict=True)
        )
        if not self._unread[touched].any():
            return
        for place in product(*(range(s.start, s.stop) for s in touched)):
            if self._unread[place]:
                number = int(np.ravel_multi_index(place, self._unread.shape))
                if zlib.crc32(self._array.schunk.get_chunk(number)) != self._checksums[number]:
                    raise ValueError(f"chunk {number} differs from its checksum")
                self._unread[place] = False


def record_of(array: Any) -> dict[str, Any]:
    """Form and checksums of an array of blosc2, JSON-able: what ``CheckedArray`` compares."""
    schunk = array.schunk
    return _form_of(array) | {"crc32": [zlib.crc32(schunk.get_chunk(i)) for i in range(schunk.nchunks)]}


def _form_of(array: Any) -> dict[str, Any]:
    return {
        "shape": list(array.shape),
        "chunks": list(array.chunks),
        "blocks": list(array.blocks),
        "dtype": str(array.dtype),
    }
