"""Files of tensors, read without executing anything in them."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from medseg.errors import InputError
from medseg.runtime import integrity
from medseg.weights import onnx_file, torchscript

_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
    *(
        (function, f"{home}.multiarray.{function.__name__}")
        for function in (np._core.multiarray.scalar, np._core.multiarray._reconstruct)  # type: ignore[attr-defined]
        for home in ("numpy.core", "numpy._core")
    ),
]
"""Plain values beside the tensors of many published checkpoints: options of a script, logged numbers."""
_SAFE = "convert it with safetensors.torch.save_file(state_dict, 'weights.safetensors') where you trust it"


def open_file(path: Path) -> Mapping[str, object]:
    """What a file of torch, TorchScript, safetensors, Lightning or ONNX holds, on the CPU; by content, but for ONNX.

    Args:
        path: An existing file.

    Raises:
        InputError: It holds pickled code, is cut short, or is another kind of file.
    """
    if path.suffix == ".safetensors" or _looks_safe(path):
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise InputError(
                f"model.encoder.weights={path}: can't be read as safetensors ({_line(error)}); it is cut short or of "
                "another kind: fetch it again"
            ) from error
    if onnx_file.is_onnx(path):
        return onnx_file.tensors(path)
    if _is_program(path):
        return torchscript.tensors(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for a file that it can't read
        raise _unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"model.encoder.weights={path}: holds a {type(content).__name__}, expected tensors by name: save "
            "network.state_dict()"
        )
    if "medseg" in content:
        integrity.check(content, f"model.encoder.weights={path}", ["medseg", "state_dict"])
    return content


def _looks_safe(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header in JSON, and the header."""
    start = _begins(path, 9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _begins(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _is_program(path: Path) -> bool:
    """Whether it is TorchScript, whose weights come with a program.

    Raises:
        InputError: A damaged zip file.
    """
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return torchscript.is_program(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:  # ValueError: names not in UTF-8
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    told = str(error)
    start = f"model.encoder.weights={path}"
    named = re.search(r"(?:GLOBAL|[Uu]nsupported class|function) ([\w.]+)", told)
    foreign = isinstance(error, pickle.UnpicklingError) and _begins(path, 1) == pickle.PROTO
    if named or foreign:
        what = f" ({named[1]})" if named else ""
        return InputError(f"{start}: holds pickled code{what}, which medseg never executes; {_SAFE}")
    return InputError(
        f"{start}: can't be read as tensors ({_line(error)}); it is cut short or of another kind: expected a file "
        "of torch or safetensors; fetch it again"
    )


def _line(error: Exception) -> str:
    """The first sentence of an error."""
    words = re.split(r"[.\n]", str(error).strip(), maxsplit=1)[0].strip()
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
