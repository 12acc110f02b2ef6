"""How many bytes a file may claim to hold: held against what is stored, before anything is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from medseg.errors import InputError

DEFLATE_RATIO = 1040
"""Bytes that one byte of gzip can become: 1032, and some for short files."""
SUSPICIOUS_RATIO, SUSPICIOUS_BYTES = 200, 2 << 30
"""A file that grows so many times over to more than so many bytes is taken for a decompression bomb. Images shrink 2
to 4 times and masks 20 to 200 times; an empty mask shrinks 1000 times, but 2 GiB of it are 1280 x 1280 x 1310 cells."""


def check_size(
    path: Path, promised: int, stored: int, *, compressed: bool, error: type[Exception] = ValueError
) -> None:
    """Refuse a header that promises more bytes than the file can hold, or than are worth decoding.

    Args:
        path: Named in the message.
        promised: Bytes of the cells by the header: shape times size of a cell.
        stored: Bytes of the file behind its header.
        compressed: Whether they are.
        error: Raised for a promise that the file cannot keep, with the reason only.

    Raises:
        InputError: A decompression bomb, or more than the memory of this machine.
    """
    if not compressed and promised > stored:
        raise error(f"its header promises {promised} bytes of cells, but {max(stored, 0)} are stored")
    if compressed and promised > DEFLATE_RATIO * max(stored, 0) and promised > 1 << 24:
        raise error(
            f"its header promises {promised} bytes of cells, which {max(stored, 0)} compressed bytes cannot hold"
        )
    if compressed and promised > max(SUSPICIOUS_BYTES, SUSPICIOUS_RATIO * stored):
        raise InputError(
            f"{path}: {stored / 1e6:.3g} MB would expand to {promised / 1e9:.3g} GB, like a decompression bomb; "
            f"expected at most {SUSPICIOUS_RATIO} times as much, or {SUSPICIOUS_BYTES >> 30} GiB; "
            "store it uncompressed, or in a smaller type"
        )


def check_memory(path: Path, wanted: int) -> None:
    """Refuse to read more bytes at once than this machine has memory.

    Raises:
        InputError: More; names the file.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted > memory:
        raise InputError(
            f"{path}: the cells to be read take {wanted / 1e9:.4g} GB, this machine has {memory / 1e9:.4g} GB of "
            "memory; check the shape in the header, or cut the file into parts"
        )
