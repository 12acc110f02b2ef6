"""HDF5 files of one contiguous array, written byte by byte, as no package that writes them is installed.

Of the oldest version of the format (superblock 0), as in its specification (HDF5 File Format Specification 3.0,
sections II.A, III.A to III.D and IV.A); libhdf5 within GDAL reads them.
"""

import struct
from pathlib import Path

import numpy as np

_UNDEFINED = b"\xff" * 8
_FLOAT_64 = bytes([0x11, 0x20, 63, 0]) + struct.pack("<IHHBBBBI", 8, 0, 64, 52, 11, 0, 52, 1023)
_BYTE = bytes([0x10, 0x00, 0, 0]) + struct.pack("<IHH", 1, 0, 8)
_TYPES = {"f8": _FLOAT_64, "u1": _BYTE}


def write_hdf5(path: Path, name: str, array: np.ndarray) -> None:
    """Write ``array`` (float64 or uint8) as the only dataset of the file's root."""
    cells = np.ascontiguousarray(array)
    kind = _TYPES[cells.dtype.str[1:]]
    root, tree, heap, names, nodes, header = 96, 136, 680, 712, 744, 1072
    data = 2048
    superblock = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    superblock += struct.pack("<Q", 0) + _UNDEFINED + struct.pack("<Q", data + cells.nbytes) + _UNDEFINED
    superblock += struct.pack("<QQII", 0, root, 1, 0) + struct.pack("<QQ", tree, heap)
    of_root = _object([(0x11, struct.pack("<QQ", tree, heap))])
    of_tree = b"TREE" + struct.pack("<BBH", 0, 0, 1) + _UNDEFINED * 2 + struct.pack("<QQQ", 0, nodes, 8)
    of_heap = b"HEAP" + struct.pack("<IQQQ", 0, 32, 1, names)  # no free block
    of_names = bytes(8) + name.encode().ljust(24, b"\0")
    of_nodes = b"SNOD" + struct.pack("<BBH", 1, 0, 1) + struct.pack("<QQII", 8, header, 0, 0) + bytes(16)
    space = bytes([1, cells.ndim, 0, 0]) + bytes(4) + struct.pack(f"<{cells.ndim}Q", *cells.shape)
    layout = bytes([3, 1]) + struct.pack("<QQ", data, cells.nbytes)
    of_array = _object([(0x1, space), (0x3, kind), (0x5, bytes([2, 2, 2, 0])), (0x8, layout)])
    content = bytearray(data)
    placed = [(0, superblock), (root, of_root), (tree, of_tree), (heap, of_heap), (names, of_names)]
    for start, block in [*placed, (nodes, of_nodes), (header, of_array)]:
        content[start : start + len(block)] = block
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(content) + cells.tobytes())


def _object(messages: list[tuple[int, bytes]]) -> bytes:
    """An object header of version 1: a prefix of 16 bytes and messages of multiples of 8."""
    body = b""
    for kind, content in messages:
        padded = content.ljust(-(-len(content) // 8) * 8, b"\0")
        body += struct.pack("<HHB3x", kind, len(padded), 0) + padded
    return struct.pack("<BBHII4x", 1, 0, len(messages), 1, len(body)) + body
