"""A network as files of torch.export and ONNX: dynamic batch, fixed window."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from medseg.errors import InputError

OPSET = 18
"""Operator set of ONNX files: the one that torch's exporter is written for; onnxruntime runs it since 1.14."""
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_TRACE = "stack_trace"  # of each node, with the paths of this machine
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")  # their notes on each rewriting of a graph
_OPERATOR = re.compile(r"\b(?:aten|prim|torchvision|prims|quantized)(?:\.|::)\w+|OpOverload\(op='([\w.:]+)'")


def check_installed() -> None:
    """Check that the packages of ONNX are installed.

    Raises:
        InputError: One is not; says what to install.
    """
    absent = [name for name in _NEEDED if find_spec(name) is None]
    if absent:
        raise InputError(
            f"format=onnx needs {', '.join(absent)}, not installed here; pip install 'medseg[export]', or choose "
            "format=pt2, which needs torch alone"
        )


def traced(network: nn.Module, channels: int, window: Sequence[int], where: str) -> ExportedProgram:
    """The network as a program of tensors that takes any number of windows.

    Args:
        network: In evaluation mode, on the CPU.
        channels: Of an image.
        window: Cells of a window.
        where: The checkpoint, for messages.

    Raises:
        InputError: A network with a margin; Python code that can't be traced.
    """
    if getattr(network, "takes_facts", False) or getattr(network, "classifies", False):
        raise InputError(
            f"{where}: its network takes facts of cases or classifies them (model.facts, data.case_label), which an "
            "exported program of images has no place for; predict with medseg-predict"
        )
    if any(getattr(network, "margin", ())):
        raise InputError(
            f"{where}: its network sees more than it gives logits of (model.encoder.context), for which "
            "exported windows have no margin; export a network without context"
        )
    batch = Dim("batch", min=1, max=1024)
    image = torch.zeros(2, channels, *window)  # of one, the batch would become a constant
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(_Logits(network), (image,), dynamic_shapes=({0: batch},))
        except Exception as error:  # torch raises many kinds
            raise InputError(
                f"{where}: torch.export can't trace its network {type(network).__name__} ({_line(error)}); export a "
                "network without branches that depend on values"
            ) from error
    for node in program.graph.nodes:
        node.meta.pop(_TRACE, None)
    return program


def write_onnx(program: ExportedProgram, path: Path, where: str) -> None:
    """Write a program as one ONNX file with the input ``image`` and the output ``logits``.

    Raises:
        InputError: An operator that ONNX can't express; names it.
    """
    with _quiet():
        try:
            onnx = torch.onnx.export(
                program, (), input_names=["image"], output_names=["logits"], opset_version=OPSET, dynamo=True,
                external_data=False, verbose=False,
            )  # fmt: skip
        except Exception as error:
            raise InputError(
                f"{where}: ONNX can't express {_operator(error)} of its network; format=pt2 writes it for "
                "torch.export instead, and the runner then needs torch"
            ) from error
        assert onnx is not None
        for node in onnx.model.graph.all_nodes():
            node.metadata_props.pop(f"pkg.torch.onnx.{_TRACE}", None)
        onnx.save(path, external_data=False)


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write a program as a file that ``torch.export.load`` reads."""
    with _quiet():
        torch.export.save(program, path)


class _Logits(nn.Module):
    """A network of one argument, with logits in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of windows."""
        logits: torch.Tensor = self.network(image)
        return logits.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes on how its exporters work."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _operator(error: BaseException) -> str:
    """The operator that an exporter could not translate, from its message or those of its causes."""
    at: BaseException | None = error
    while at is not None:
        match = _OPERATOR.search(str(at))
        if match and "No ONNX function" in str(at):
            return f"the operator {match[1] or match[0]}"
        at = at.__cause__ or at.__context__
    return f"an operator ({_line(error)})"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
