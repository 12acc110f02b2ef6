"""Tensors of a TorchScript archive by their names, read from its data; its program is never run.

The archive is a zip file: ``data.pkl`` describes the modules, each storage is an entry ``data/N``. The pickle is read
opcode by opcode into plain values. No class or function that it names is ever looked up.
"""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medseg.errors import InputError

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_MOST_DESCRIPTION = 256 << 20
"""Bytes of a description; that of a network with a thousand modules has 100 kB."""
_MOST_PARTS = 1 << 17
_VALUES: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ARGUMENTS = {"BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
"""Opcodes whose argument is the value."""
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, EOFError, OSError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


def is_program(names: list[str]) -> bool:
    """Whether the entries of a zip file are those of a TorchScript archive."""
    inner = [name.split("/", 1)[-1] for name in names]
    return "constants.pkl" in inner and any(name.startswith("code/") for name in inner)


def tensors(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive, as ``state_dict`` of its module would have them.

    Args:
        path: An archive for which ``is_program`` holds.

    Raises:
        InputError: It is damaged, or none of its tensors has a name, as after ``torch.jit.freeze``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = dict(_named(_described(archive), archive))
    except _DAMAGE as error:
        raise InputError(
            f"model.encoder.weights={path}: can't be read as TorchScript ({type(error).__name__}: {error}); it is "
            "damaged, or written by another program: save it again with torch.jit.save"
        ) from error
    if not found:
        raise InputError(
            f"model.encoder.weights={path}: is a program of TorchScript without tensors that have names, as "
            "torch.jit.freeze makes it; give the file from before"
        )
    return found


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names; it is not looked up."""

    words: str


@dataclass(eq=False)
class _Module:
    """An object of the program: its attributes by name."""

    attributes: dict[Any, Any]


@dataclass(frozen=True)
class _Strided:
    """A tensor: key and type of its storage, and where in it its values are."""

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _described(archive: zipfile.ZipFile) -> object:
    """The root module of ``data.pkl``."""
    name = f"{_root(archive)}data.pkl"
    if archive.getinfo(name).file_size > _MOST_DESCRIPTION:
        raise ValueError(f"data.pkl has more than {_MOST_DESCRIPTION} bytes")
    stack = _Stack()
    for opcode, argument, _ in pickletools.genops(archive.read(name)):
        stack.step(opcode.name, argument)
    return stack.values[-1]


def _root(archive: zipfile.ZipFile) -> str:
    """What the names of all entries begin with."""
    return next(name for name in archive.namelist() if name.endswith("constants.pkl")).removesuffix("constants.pkl")


class _Stack:
    """A machine for the opcodes that TorchScript writes; every value is plain data or one of the classes above."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "PROTO": lambda _: None,
            "STOP": lambda _: None,
            "MARK": lambda _: self._marks.append(len(self.values)),
            "GLOBAL": lambda words: self.values.append(_Name(words)),
            "EMPTY_DICT": lambda _: self.values.append({}),
            "EMPTY_LIST": lambda _: self.values.append([]),
            "TUPLE": lambda _: self.values.append(tuple(self._marked())),
            "TUPLE1": lambda _: self.values.append(tuple(self._last(1))),
            "TUPLE2": lambda _: self.values.append(tuple(self._last(2))),
            "TUPLE3": lambda _: self.values.append(tuple(self._last(3))),
            "SETITEM": lambda _: self._set(self._last(2)),
            "SETITEMS": lambda _: self._set(self._marked()),
            "APPEND": lambda _: self._extend(self._last(1)),
            "APPENDS": lambda _: self._extend(self._marked()),
            "NEWOBJ": lambda _: self._make(),
            "BUILD": lambda _: self._build(),
            "REDUCE": lambda _: self._call(),
            "BINPERSID": lambda _: None,  # the description of a storage stays a tuple
        }
        self._steps |= dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._store)
        self._steps |= dict.fromkeys(("BINGET", "LONG_BINGET"), lambda place: self.values.append(self._memo[place]))

    def step(self, opcode: str, argument: Any) -> None:
        """One opcode.

        Raises:
            ValueError: One that TorchScript does not write.
        """
        if opcode in _ARGUMENTS:
            self.values.append(argument)
        elif opcode in _VALUES:
            self.values.append(_VALUES[opcode])
        elif opcode in self._steps:
            self._steps[opcode](argument)
        else:
            raise ValueError(f"opcode {opcode}")

    def _store(self, place: int) -> None:
        self._memo[place] = self.values[-1]

    def _last(self, count: int) -> list[Any]:
        return [self.values.pop() for _ in range(count)][::-1]

    def _marked(self) -> list[Any]:
        start = self._marks.pop()
        values = self.values[start:]
        del self.values[start:]
        return values

    def _set(self, pairs: list[Any]) -> None:
        self.values[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self.values[-1], list):
            raise TypeError(f"values for a {type(self.values[-1]).__name__}")
        self.values[-1].extend(values)

    def _make(self) -> None:
        self._last(2)
        self.values.append(_Module({}))

    def _build(self) -> None:
        (state,) = self._last(1)
        if isinstance(self.values[-1], _Module) and isinstance(state, dict):
            self.values[-1].attributes.update(state)

    def _call(self) -> None:
        name, arguments = self._last(2)
        self.values.append(_tensor_of(name.words.split()[-1], arguments))


def _tensor_of(function: str, arguments: tuple[Any, ...]) -> object:
    """What a call stands for: a tensor, or the values of a typed list; None for everything else."""
    if function == "_rebuild_tensor_v2":
        (_, storage, key, *_), offset, size, stride = arguments[:4]
        dtype = _STORAGES.get(storage.words.split()[-1])
        return None if dtype is None else _Strided(str(key), dtype, offset, size, stride)
    if function in ("_rebuild_parameter", "restore_type_tag"):
        return arguments[0]
    return None


def _named(root: object, archive: zipfile.ZipFile) -> Iterator[tuple[str, Tensor]]:
    """Name and values of each tensor of a module and of those in it."""
    byte_order = f"{_root(archive)}byteorder"
    if byte_order in archive.namelist() and archive.read(byte_order) != b"little":
        raise ValueError("written on a machine with another order of bytes")
    storages: dict[tuple[str, torch.dtype], Tensor] = {}
    for count, (name, tensor) in enumerate(_walk(root, "", ())):
        if count >= _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} modules and tensors")
        if tensor is None:
            continue
        place = tensor.key, tensor.dtype
        if place not in storages:
            storages[place] = _storage(archive, *place)
        yield name, _view(storages[place], tensor)


def _walk(value: object, name: str, parents: tuple[int, ...]) -> Iterator[tuple[str, _Strided | None]]:
    """Names of modules, with None, and tensors with theirs; a module that contains itself ends there.

    Modules count too: a small file can name a module twice in one that is twice in another, and so on.
    """
    if isinstance(value, _Strided):
        yield name, value
    elif isinstance(value, _Module) and id(value) not in parents:
        yield name, None
        for key, part in value.attributes.items():
            yield from _walk(part, f"{name}.{key}" if name else str(key), (*parents, id(value)))


def _storage(archive: zipfile.ZipFile, key: str, dtype: torch.dtype) -> Tensor:
    """The values of a storage.

    Raises:
        ValueError: It is compressed, as torch never writes it.
    """
    entry = archive.getinfo(f"{_root(archive)}data/{key}")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"data/{key} is compressed")
    content = archive.read(entry)
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _view(storage: Tensor, tensor: _Strided) -> Tensor:
    """A tensor within its storage.

    Raises:
        ValueError: It has more values than its storage.
        RuntimeError: It ends outside of it.
    """
    if prod(tensor.size) > len(storage):
        raise ValueError(f"a tensor of shape {list(tensor.size)} in a storage of {len(storage)} values")
    return storage.as_strided(tensor.size, tensor.stride, tensor.offset)
