"""Mutations of small files, each a function of a random generator: bytes, fields, text lines and nodes of JSON."""

import gzip
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

EXTREMES = (
    "0", "-1", "1", "2", "5", "100", "100000", "2147483647", "2147483648", "-2147483648", "4294967296", "1e6", "1e-12",
    "1e38", "1e300", "nan", "inf", "-inf", "", "x", "0x10", "1 2 3 4", "A" * 300, "../../../etc/passwd", "/dev/zero",
    "LIST", "a%d.raw 1 3 1", "%s%n", "\u00e9\u4e2d", "true", "gzip", "raw", "MET_DOUBLE", "LOCAL",
)  # fmt: skip
"""What a value in a text is replaced by."""
NODES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1.5, math.nan, math.inf, -math.inf, "", "x", "0", "A" * 300, "\0",
    "../../../etc/passwd", "/etc/passwd", "http://127.0.0.1:9/x", [], {}, [[]], [None], [-1, 0], {"": 0},
    {"type": "link"},
)  # fmt: skip
"""What a node of JSON or YAML is replaced by."""

Rng = np.random.Generator


def mutate(content: bytes, kind: str, others: list[bytes], rng: Rng) -> bytes:
    """A changed copy.

    Args:
        content: Of a valid file.
        kind: ``bytes``, ``gzip`` (changed inside as well), ``text`` (of lines, perhaps with bytes after them),
            ``json``, or ``yaml`` (in JSON, which is YAML).
        others: Contents to splice from.
        rng: Draws everything.
    """
    for _ in range(int(rng.integers(1, 4))):
        content = _once(content, kind, others, rng)
    return content


def _once(content: bytes, kind: str, others: list[bytes], rng: Rng) -> bytes:
    if kind == "gzip" and rng.random() < 0.8:
        try:
            plain = gzip.decompress(content)
        except (OSError, EOFError, ValueError, Exception):  # changed before
            return _any(content, others, rng)
        inner = [gzip.decompress(other) for other in others]
        return gzip.compress(_any(plain, inner, rng), compresslevel=1, mtime=0)
    if kind == "text" and rng.random() < 0.75:
        return edit_line(content, rng)
    if kind in ("json", "yaml") and rng.random() < 0.85:
        try:
            return edit_node(content, rng)
        except (ValueError, RecursionError):  # changed before
            return _any(content, others, rng)
    return _any(content, others, rng)


def _any(content: bytes, others: list[bytes], rng: Rng) -> bytes:
    ways: tuple[Callable[[bytes, Rng], bytes], ...] = (flip, flip, field, field, field, cut, drop, repeat)
    way = int(rng.integers(len(ways) + 1))
    return splice(content, others, rng) if way == len(ways) else ways[way](content, rng)


def _place(content: bytes, rng: Rng) -> int:
    """An offset, two times in three in the header."""
    end = len(content) if rng.random() < 1 / 3 else min(len(content), 512)
    return int(rng.integers(max(end, 1)))


def flip(content: bytes, rng: Rng) -> bytes:
    """One to eight bits changed."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if changed else 0):
        changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def field(content: bytes, rng: Rng) -> bytes:
    """A number of 1 to 8 bytes, integer or float of either byte order, set to an extreme."""
    kinds = ("u1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<f4", ">f4", "<f8", ">f8")
    dtype = np.dtype(kinds[int(rng.integers(len(kinds)))])
    if dtype.kind == "f":
        extremes = [0, -1, 1e6, 1e-30, 1e30, np.nan, np.inf, -np.inf]
        value = np.array(extremes[int(rng.integers(len(extremes)))], dtype=dtype)
    else:
        info = np.iinfo(dtype)
        extremes = [0, 1, 2, 7, 127, info.max, info.max // 2, info.min, -1 if info.min else info.max]
        value = np.array(extremes[int(rng.integers(len(extremes)))]).astype(dtype)
    at = _place(content, rng)
    return (content[:at] + value.tobytes() + content[at + dtype.itemsize :])[: max(len(content), 1)]


def cut(content: bytes, rng: Rng) -> bytes:
    """The end is missing."""
    return content[: int(rng.integers(len(content) + 1))]


def drop(content: bytes, rng: Rng) -> bytes:
    """Some bytes are missing."""
    at = _place(content, rng)
    return content[:at] + content[at + int(rng.integers(1, 64)) :]


def repeat(content: bytes, rng: Rng) -> bytes:
    """Some bytes come twice, or random ones are put in."""
    at, n = _place(content, rng), int(rng.integers(1, 64))
    return content[:at] + (content[at : at + n] if rng.random() < 0.5 else rng.bytes(n)) + content[at:]


def splice(content: bytes, others: list[bytes], rng: Rng) -> bytes:
    """The beginning of one file and the end of another."""
    other = others[int(rng.integers(len(others)))] if others else content
    at = int(rng.integers(min(len(content), len(other)) + 1))
    return content[:at] + other[at:]


def edit_line(content: bytes, rng: Rng) -> bytes:
    """A line of the text at the beginning dropped, repeated, moved, or with a value replaced."""
    lines = content[:4096].split(b"\n")
    rest = content[4096:]
    i = int(rng.integers(min(len(lines), 40)))
    way = int(rng.integers(6))
    if way == 0:
        del lines[i]
    elif way == 1:
        lines.insert(i, lines[i])
    elif way == 2:
        lines.insert(int(rng.integers(len(lines))), lines.pop(i))
    else:
        separator = b"=" if b"=" in lines[i] else b":"
        key, found, value = lines[i].partition(separator)
        words = value.split() if way == 3 else [value]
        if found and words:
            words[int(rng.integers(len(words)))] = EXTREMES[int(rng.integers(len(EXTREMES)))].encode()
            lines[i] = key + separator + b" " + b" ".join(words)
    return b"\n".join(lines) + rest


def edit_node(content: bytes, rng: Rng) -> bytes:
    """A node of JSON replaced, dropped, renamed, or nested deeply."""
    tree = json.loads(content)
    places = list(_places(tree))
    if not places:
        return json.dumps(NODES[int(rng.integers(len(NODES)))]).encode()
    holder, key = places[int(rng.integers(len(places)))]
    way = int(rng.integers(8))
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[EXTREMES[int(rng.integers(len(EXTREMES)))]] = holder.pop(key)
    elif way == 2:
        other, name = places[int(rng.integers(len(places)))]
        holder[key] = json.loads(json.dumps(other[name]))
    else:
        holder[key] = NODES[int(rng.integers(len(NODES)))]
    text = json.dumps(tree)
    return (text.replace("null", "[" * 100_000, 1) if rng.random() < 0.01 else text).encode()


def _places(tree: Any) -> Any:
    """Every (container, key) of a tree."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from _places(value)
