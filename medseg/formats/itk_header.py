"""Text headers of MetaImage and NRRD, checked in Python before ITK parses them.

ITK trusts these headers: a single line such as ``NDims = 100`` overwrites its memory and ends the process, and the
data file may be any path. What passes here has 2 to 4 axes, sizes that the stored bytes can fill, a known type of
cells, and data files that are regular files next to the header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medseg.formats.sizes import check_size

_MOST_BYTES = 1 << 20  # a header; those that list all tags of a DICOM file have some 10 kB
_LONGEST_LINE = 4096
_AXES = (2, 3, 4)  # with one of channels in NRRD

_NRRD_TYPES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t",
        "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip
_NRRD_BYTES = {name: n for n, names in _NRRD_TYPES.items() for name in names}
_NRRD_ENCODINGS = {"raw": False, "gz": True, "gzip": True, "bz2": True, "bzip2": True}
_NRRD_TEXT = ("txt", "text", "ascii", "hex")

# MET_LONG has 4 or 8 bytes, by the machine; the smaller one bounds the file from below
_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
               "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
_META_SQUARE = ("TransformMatrix", "Rotation", "Orientation")
_META_VECTOR = ("Offset", "Position", "Origin", "CenterOfRotation", "ElementSpacing", "ElementSize", "SequenceID")
_META_NUMBER = (
    "ID", "ParentID", "CompressedDataSize", "CompressionLevel", "HeaderSize", "ElementNumberOfChannels", "ElementMin",
    "ElementMax", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset",
)  # fmt: skip


class HeaderError(ValueError):
    """What is wrong with a header; says what was found and what was expected."""


@dataclass(frozen=True)
class ItkHeader:
    """What a text header declares.

    Attributes:
        axes: Number of axes of the file, including one of channels in NRRD.
        data_files: Files with the cells; empty if they follow the header.
        ordinary: Whether it is written as common software does. Other headers are first parsed by ITK in a process
            of their own (see ``isolated``), as not all that ITK makes of them is checked here.
    """

    axes: int
    data_files: tuple[Path, ...]
    ordinary: bool


@dataclass(frozen=True)
class _Storage:
    """How cells lie in files: which, whether compressed or as text, and the bytes before them."""

    data_files: tuple[Path, ...]
    compressed: bool
    text: bool
    skipped: int = 0


def read_header(path: Path) -> ItkHeader:
    """Parse and check the header of a ``.mha``, ``.mhd``, ``.nrrd`` or ``.nhdr`` file.

    Raises:
        HeaderError: Not such a header, or one that contradicts itself or the size of the data.
        OSError: The file or its data cannot be read.
        InputError: Data that would take an absurd amount of memory.
    """
    with path.open("rb") as file:
        return (_nrrd if path.suffix.lower() in (".nrrd", ".nhdr") else _meta)(path, file)


def _meta(path: Path, file: BinaryIO) -> ItkHeader:
    """The header of a MetaImage file."""
    fields = _meta_fields(file)
    axes = _whole(fields, "NDims")
    _check_axes(axes)
    sizes = _sizes(fields.get("DimSize", ""), axes)
    for keys, n in ((_META_SQUARE, axes * axes), (_META_VECTOR, axes), (_META_NUMBER, 1), (("Color",), 4)):
        for key in fields.keys() & set(keys):
            _numbers(key, fields[key], n)
    channels, kind = _meta_channels(fields), fields.get("ElementType", "")
    cell_bytes = _meta_bytes(kind)
    name = fields["ElementDataFile"]
    data = () if name in ("LOCAL", "Local", "local") else _data_files(path.parent, name, file)
    skipped = _whole(fields, "HeaderSize", 0)
    text = not _true(fields.get("BinaryData", "True"))
    promised = math.prod(sizes) * channels * cell_bytes
    storage = _Storage(data, _true(fields.get("CompressedData", "")), text, max(skipped, 0))
    _check_storage(path, file, promised, storage)
    usual = fields.get("ObjectType", "Image") == "Image" and not kind.endswith("_ARRAY")
    return ItkHeader(axes, data, usual and not (text or skipped or len(data) > 1))


def _meta_channels(fields: dict[str, str]) -> int:
    """Number of channels of a MetaImage header."""
    channels = _whole(fields, "ElementNumberOfChannels", 1)
    if not 1 <= channels <= 10_000:
        raise HeaderError(f"ElementNumberOfChannels = {channels}, expected 1 to 10000")
    return channels


def _meta_bytes(kind: str) -> int:
    """Bytes of a cell of an ElementType."""
    plain = kind.removeprefix("MET_").removesuffix("_ARRAY")
    if not kind.startswith("MET_") or plain not in _META_BYTES:
        raise HeaderError(f"ElementType = {kind[:40]!r}, expected one such as MET_SHORT or MET_FLOAT")
    return _META_BYTES[plain]


def _meta_fields(file: BinaryIO) -> dict[str, str]:
    """Values by key, in order, up to the data file."""
    fields: dict[str, str] = {}
    for line in _lines(file):
        key, separator, value = line.partition("=")
        key = key.strip()
        if not separator or not re.fullmatch(r"[^\x00-\x1f:=]{1,255}", key):
            raise HeaderError(f"got the line {line[:60]!r}, expected 'Key = Value'")
        if key in fields:
            raise HeaderError(f"{key} is given twice")
        fields[key] = value.strip()
        if key == "ElementDataFile":
            return fields
    raise HeaderError("no line 'ElementDataFile = ...' was found")


def _nrrd(path: Path, file: BinaryIO) -> ItkHeader:
    fields = _nrrd_fields(file)
    axes = _whole(fields, "dimension")
    _check_axes(axes)
    sizes = _sizes(fields.get("sizes", ""), axes)
    kind, encoding = fields.get("type", "").lower(), fields.get("encoding", "").lower()
    if kind not in _NRRD_BYTES:
        raise HeaderError(f"type is {kind[:40]!r}, expected one such as short or float")
    if encoding not in _NRRD_ENCODINGS and encoding not in _NRRD_TEXT:
        raise HeaderError(f"encoding is {encoding[:40]!r}, expected raw or gzip")
    skips = [_whole(fields, key, 0) for key in ("lineskip", "byteskip")]
    if min(skips) < -1:
        raise HeaderError(f"line skip and byte skip are {skips}, expected 0 or more")
    data = _data_files(path.parent, fields["datafile"], file) if "datafile" in fields else ()
    text = encoding in _NRRD_TEXT
    storage = _Storage(data, _NRRD_ENCODINGS.get(encoding, False), text)
    _check_storage(path, file, math.prod(sizes) * _NRRD_BYTES[kind], storage)
    return ItkHeader(axes, data, not (text or any(skips) or len(data) > 1 or encoding.startswith("b")))


def _nrrd_fields(file: BinaryIO) -> dict[str, str]:
    """Values by field, in lower case without blanks, up to the empty line; neither comments nor key:=value pairs."""
    magic = file.readline(10)
    if not re.fullmatch(rb"NRRD000[1-6]\r?\n", magic):
        raise HeaderError(f"it starts with {magic!r}, expected NRRD0004 or similar")
    fields: dict[str, str] = {}
    for line in _lines(file):
        if not line.strip():
            break
        if line.startswith("#") or re.match(r"[^:]*:=", line):
            continue
        key, separator, value = line.partition(":")
        key = re.sub(r"\s", "", key).lower()
        if not separator:
            raise HeaderError(f"got the line {line[:60]!r}, expected 'field: value'")
        if key in fields:
            raise HeaderError(f"the field {key!r} is given twice")
        fields[key] = value.strip()
        if key == "datafile" and value.split()[:1] == ["LIST"]:
            break
    return fields


def _data_files(folder: Path, name: str, file: BinaryIO) -> tuple[Path, ...]:
    """Files of ``name``, ``LIST [axes]`` with a name a line, or ``pattern first last [step [axes]]``."""
    words = name.split()
    if words[:1] == ["LIST"]:
        return _plain_files(folder, _lines(file))
    return _numbered(folder, words) if "%" in name else _plain_files(folder, [name])


def _lines(file: BinaryIO) -> Iterable[str]:
    """Lines without their end, as Latin-1; each of bounded length, all of bounded size."""
    read = 0
    while line := file.readline(_LONGEST_LINE):
        read += len(line)
        if len(line) == _LONGEST_LINE or read > _MOST_BYTES:
            raise HeaderError(f"a line of {_LONGEST_LINE} bytes or {_MOST_BYTES} bytes of header, expected less")
        yield line.decode("latin-1").rstrip("\r\n")


def _plain_files(folder: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """Regular files of these names in the folder of the header, and nowhere else."""
    paths = []
    for name in names:
        if not name.strip():
            continue
        if re.search(r"[/\\\x00-\x1f%]", name) or name in (".", ".."):
            raise HeaderError(f"its data file is {name[:60]!r}, expected the name of a file in the same folder")
        if not (folder / name).is_file():
            raise HeaderError(f"its data file {name[:60]!r} is missing or no regular file")
        paths.append(folder / name)
        if len(paths) > 100_000:
            raise HeaderError("it lists more than 100000 data files")
    if not paths:
        raise HeaderError("it names no data file")
    return tuple(paths)


def _numbered(folder: Path, words: list[str]) -> tuple[Path, ...]:
    """Files of a pattern with one number, such as ``slice%03d.raw 1 20 1``."""
    if not words or not re.fullmatch(r"[^%]*%0?\d?d[^%]*", words[0]) or not 3 <= len(words) <= 5:
        raise HeaderError(f"its data files are {' '.join(words)[:60]!r}, expected a pattern such as 'a%03d.raw 1 9 1'")
    first, last, step = ([*_numbers("data file", " ".join(words[1:]), len(words) - 1), 1][i] for i in range(3))
    if not 0 <= first <= last <= 100_000 or step < 1:
        raise HeaderError(f"its data files are numbered {words[1:]}, expected first, last and step")
    return _plain_files(folder, [words[0] % n for n in range(int(first), int(last) + 1, int(step))])


def _check_storage(path: Path, file: BinaryIO, promised: int, storage: _Storage) -> None:
    """Hold the bytes that a header promises to those that are stored."""
    parts = storage.data_files
    stored = sum(part.stat().st_size for part in parts) if parts else path.stat().st_size - file.tell()
    # a cell of text has two characters, but for the last; in memory it may have eight bytes
    promised = (promised // 8) * 2 - 1 if storage.text else promised
    check_size(path, promised, stored - storage.skipped, compressed=storage.compressed, error=HeaderError)


def _check_axes(axes: int) -> None:
    if axes not in _AXES:
        raise HeaderError(f"it has {axes} axes, expected 2 or 3 (channels as components of a vector)")


def _sizes(text: str, axes: int) -> list[int]:
    sizes = [int(n) for n in _numbers("the size", text, axes)]
    if not all(0 < n < 1 << 31 for n in sizes):
        raise HeaderError(f"its size is {sizes}, expected at least one cell on each axis")
    return sizes


def _whole(fields: dict[str, str], key: str, default: int | None = None) -> int:
    if key not in fields and default is not None:
        return default
    text = fields.get(key, "")
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise HeaderError(f"{key} is {text[:40]!r}, expected an integer")
    return int(text)


def _numbers(key: str, text: str, n: int) -> list[float]:
    """Exactly n finite numbers."""
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != n or not all(map(math.isfinite, values)):
        raise HeaderError(f"{key} is {text[:60]!r}, expected {n} number(s)")
    return values


def _true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")
