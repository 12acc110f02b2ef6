"""HDF5 files of a few contiguous arrays, written byte by byte, as no package that writes them is installed.

Of the oldest version of the format (superblock 0), as in its specification (HDF5 File Format Specification 3.0,
sections II.A, III.A to III.D and IV.A); libhdf5 within GDAL reads them.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_UNDEFINED = b"\xff" * 8
_FLOAT_64 = bytes([0x11, 0x20, 63, 0]) + struct.pack("<IHHBBBBI", 8, 0, 64, 52, 11, 0, 52, 1023)
_BYTE = bytes([0x10, 0x00, 0, 0]) + struct.pack("<IHH", 1, 0, 8)
_TYPES = {"f8": _FLOAT_64, "u1": _BYTE}


def write_hdf5(path: Path, name: str, array: np.ndarray) -> None:
    """Write ``array`` (float64 or uint8) as the only dataset of the file's root."""
    write_arrays(path, {name: array})


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write up to eight arrays (float64 or uint8) as datasets of the file's root."""
    cells = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    names, offsets = bytes(8), []
    for name in cells:
        offsets.append(len(names))
        names += name.encode().ljust(len(name) // 8 * 8 + 8, b"\0")
    root, tree, heap, stored, nodes = 96, 136, 680, 712, 712 + len(names)
    header = nodes + 8 + 8 * 40
    data = header + 256 * len(cells)
    starts = [data + sum(a.nbytes for a in list(cells.values())[:i]) for i in range(len(cells) + 1)]
    superblock = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    superblock += struct.pack("<Q", 0) + _UNDEFINED + struct.pack("<Q", starts[-1]) + _UNDEFINED
    superblock += struct.pack("<QQII", 0, root, 1, 0) + struct.pack("<QQ", tree, heap)
    of_root = _object([(0x11, struct.pack("<QQ", tree, heap))])
    of_tree = b"TREE" + struct.pack("<BBH", 0, 0, 1) + _UNDEFINED * 2 + struct.pack("<QQQ", 0, nodes, offsets[-1])
    of_heap = b"HEAP" + struct.pack("<IQQQ", 0, len(names), 1, stored)  # no free block
    of_nodes = b"SNOD" + struct.pack("<BBH", 1, 0, len(cells))
    for number, offset in enumerate(offsets):
        of_nodes += struct.pack("<QQII", offset, header + 256 * number, 0, 0) + bytes(16)
    content = bytearray(data)
    placed = [(0, superblock), (root, of_root), (tree, of_tree), (heap, of_heap), (stored, names), (nodes, of_nodes)]
    placed += [(header + 256 * i, _array(a, starts[i])) for i, a in enumerate(cells.values())]
    for start, block in placed:
        content[start : start + len(block)] = block
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(content) + b"".join(a.tobytes() for a in cells.values()))


def _array(cells: np.ndarray, start: int) -> bytes:
    """The header of an array whose cells begin at ``start``."""
    space = bytes([1, cells.ndim, 0, 0]) + bytes(4) + struct.pack(f"<{cells.ndim}Q", *cells.shape)
    layout = bytes([3, 1]) + struct.pack("<QQ", start, cells.nbytes)
    kind = _TYPES[cells.dtype.str[1:]]
    return _object([(0x1, space), (0x3, kind), (0x5, bytes([2, 2, 2, 0])), (0x8, layout)])


def _object(messages: list[tuple[int, bytes]]) -> bytes:
    """An object header of version 1: a prefix of 16 bytes and messages of multiples of 8."""
    body = b""
    for kind, content in messages:
        padded = content.ljust(-(-len(content) // 8) * 8, b"\0")
        body += struct.pack("<HHB3x", kind, len(padded), 0) + padded
    return struct.pack("<BBHII4x", 1, 0, len(messages), 1, len(body)) + body
