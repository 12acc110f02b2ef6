"""Tensors of an ONNX file under the names of the network that it was exported from; its graph is never run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg.errors import InputError
from medseg.weights.report import some

SUFFIX = ".onnx"
_MOST = 2 << 30
"""Bytes of a file, as protobuf limits them; larger networks keep their tensors in a second file."""
_ANONYMOUS = re.compile(r"onnx::\w+|/.*|val_\d+|\d+")
"""Names that exporters give to tensors that are no parameters of the network as it was."""
_KERNELS = ("Conv", "ConvTranspose")
_BFLOAT16 = "bfloat16"


def is_onnx(path: Path) -> bool:
    """Whether a file is one of ONNX, by its ending: protobuf has no other mark."""
    return path.suffix.lower() == SUFFIX


def tensors(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of an ONNX file.

    Exporters store equal tensors once, and name the others in nodes ``Identity``; they store the weights of linear
    layers transposed and without their names, which those of their biases give. Both are undone. What has no name
    of the network (constants, weights of linear layers without bias) is left out.

    Args:
        path: An existing file. Tensors that it keeps in a second file are read from its own folder only.

    Raises:
        InputError: The package onnx is not installed; the file is larger than protobuf permits, cut short or of another
            kind; a tensor lies outside of its folder; batch normalisation was folded into the kernels.
    """
    graph = _graph(path)
    held = {stored.name: _tensor(stored, path) for stored in graph.initializer}
    held |= {copy: held[name] for copy, name in _copies(graph) if name in held}
    _check_kernels(graph, held, path)
    linear = {weight: tensor.T for weight, tensor in _linear(graph, held)}
    return {name: t for name, t in (held | linear).items() if t is not None and not _ANONYMOUS.fullmatch(name)}


def data_files(path: Path) -> list[Path]:
    """Files next to an ONNX file in which it keeps tensors.

    Raises:
        InputError: See ``tensors``.
    """
    places = (_external(stored) for stored in _graph(path).initializer)
    return sorted({_confined(path, place["location"]) for place in places if place})


def _graph(path: Path) -> Any:
    """The graph of a file, without the tensors that lie elsewhere."""
    if find_spec("onnx") is None:
        raise InputError(
            f"model.encoder.weights={path}: reading ONNX needs onnx, not installed here; pip install 'medseg[export]'"
        )
    import onnx
    from google.protobuf.message import DecodeError

    size = path.stat().st_size
    if size > _MOST:
        raise InputError(
            f"model.encoder.weights={path}: has {size} bytes, expected {_MOST} at most, as ONNX files have; it is of "
            "another kind"
        )
    try:
        graph = onnx.load_model(str(path), format="protobuf", load_external_data=False).graph
    except DecodeError as error:
        raise InputError(
            f"model.encoder.weights={path}: can't be read as ONNX; it is cut short or of another kind: fetch it again"
        ) from error
    if not graph.initializer:
        raise InputError(f"model.encoder.weights={path}: holds no tensors; expected ONNX with the weights in it")
    return graph


def _tensor(stored: Any, path: Path) -> Tensor | None:
    """A tensor of the file, or of the file next to it; None if torch has no such type.

    Raises:
        InputError: It does not have as many values as its shape says.
    """
    from onnx import numpy_helper

    if place := _external(stored):
        copy = type(stored)(name=stored.name, data_type=stored.data_type, dims=stored.dims)
        copy.raw_data = _external_bytes(stored, _confined(path, place["location"]), place)
        stored = copy
    try:
        values = numpy_helper.to_array(stored)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"model.encoder.weights={path}: {stored.name} can't be read as a tensor of shape {list(stored.dims)}; the "
            "file is damaged: fetch it again"
        ) from error
    if values.dtype.name == _BFLOAT16:
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    try:
        return torch.from_numpy(values.copy())
    except TypeError:
        return None


def _external(stored: Any) -> dict[str, str]:
    """Location, offset and length of a tensor in another file; empty if it is in this one."""
    return {entry.key: entry.value for entry in stored.external_data} if stored.data_location else {}


def _confined(path: Path, location: str) -> Path:
    """The file next to ``path`` that holds tensors.

    Raises:
        InputError: It is in another folder, a link, or missing.
    """
    start = f"model.encoder.weights={path}: keeps tensors in {location!r:.80}"
    file = path.parent / location
    if Path(location).name != location or "\\" in location or file.is_symlink():
        raise InputError(f"{start}, expected a file in its own folder; medseg reads nothing else")
    if not file.is_file():
        raise InputError(f"{start}, which is not there; fetch it into {path.parent}")
    return file


def _external_bytes(stored: Any, file: Path, place: dict[str, str]) -> bytes:
    """The bytes of one tensor in the second file.

    Raises:
        InputError: The file is shorter than the tensor.
    """
    from onnx import helper

    try:
        length = prod(stored.dims) * helper.tensor_dtype_to_np_dtype(stored.data_type).itemsize
        offset = int(place.get("offset", 0))
    except (KeyError, ValueError):
        length = offset = -1
    if not 0 <= offset <= offset + length <= file.stat().st_size:
        raise InputError(
            f"model.encoder.weights={file}: {stored.name} lies outside of the file; it is cut short: fetch it again"
        )
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _copies(graph: Any) -> Iterator[tuple[str, str]]:
    """Names of tensors that are stored once, and the name under which they are."""
    for node in graph.node:
        if node.op_type == "Identity" and len(node.input) == len(node.output) == 1:
            yield node.output[0], node.input[0]


def _linear(graph: Any, held: dict[str, Tensor | None]) -> Iterator[tuple[str, Tensor]]:
    """Name of the weight of each linear layer that has lost it, by that of its bias; and the weight, transposed."""
    products = {
        node.output[0]: held[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and _ANONYMOUS.fullmatch(node.input[1]) and node.input[1] in held
    }
    for node in graph.node:
        if node.op_type == "Add" and len(node.input) == 2:
            product, bias = sorted(node.input, key=lambda name: name not in products)
            weight = products.get(product)
            if weight is not None and weight.ndim == 2 and bias.endswith(".bias") and bias in held:
                yield bias.removesuffix("bias") + "weight", weight


def _check_kernels(graph: Any, held: dict[str, Tensor | None], path: Path) -> None:
    """Raise on kernels into which normalisation was folded, so that they are no parameters any more.

    Raises:
        InputError: Names the first of them.
    """
    kernels = [node.input[1] for node in graph.node if node.op_type in _KERNELS and node.input[1] in held]
    folded = [name for name in kernels if _ANONYMOUS.fullmatch(name)]
    if folded:
        raise InputError(
            f"model.encoder.weights={path}: {len(folded)} of its {len(kernels)} kernels have lost their names "
            f"({some(folded)}), as batch normalisation was folded into them; give the file of torch, or export with "
            "training=TrainingMode.PRESERVE and do_constant_folding=False"
        )
