"""A network as files of torch.export and ONNX: dynamic batch, fixed window."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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


def traced(network: nn.Module, channels: int, window: Sequence[int], where: str, *, facts: int = 0) -> ExportedProgram:
    """The network as a program of tensors that takes any number of windows.

    A network that takes facts of cases gets them as a second argument ``[b, f]``; one that classifies cases gives
    ``case_logits`` ``[b, m]`` as a second output.

    Args:
        network: In evaluation mode, on the CPU.
        channels: Of an image.
        window: Cells of a window.
        where: The checkpoint, for messages.
        facts: Numbers that encode the facts of a case, f, of a network that takes them.

    Raises:
        InputError: A network with a margin; Python code that can't be traced.
    """
    if any(getattr(network, "margin", ())):
        raise InputError(
            f"{where}: its network sees more than it gives logits of (model.encoder.context), for which "
            "exported windows have no margin; export a network without context"
        )
    batch = Dim("batch", min=1, max=1024)
    arguments = [torch.zeros(2, channels, *window)]  # of one, the batch would become a constant
    arguments += [torch.zeros(2, facts)] if getattr(network, "takes_facts", False) else []
    shapes = ({0: batch}, {0: batch}) if len(arguments) == 2 else ({0: batch}, None)
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(_Logits(network), tuple(arguments), dynamic_shapes=shapes[: len(arguments)])
        except Exception as error:  # torch raises many kinds
            raise InputError(
                f"{where}: torch.export can't trace its network {type(network).__name__} ({_line(error)}); export a "
                "network without branches that depend on values"
            ) from error
    for node in program.graph.nodes:
        node.meta.pop(_TRACE, None)
    return program


def write_onnx(program: ExportedProgram, path: Path, where: str) -> None:
    """Write a program as one ONNX file: inputs ``image`` and ``facts``, outputs ``logits`` and ``case_logits``.

    The second ones are there where the program has them.

    Raises:
        InputError: An operator that ONNX can't express; names it.
    """
    with _quiet():
        try:
            onnx = torch.onnx.export(
                program, (), input_names=_named(program.graph_signature.user_inputs, ("image", "facts")),
                output_names=_named(program.graph_signature.user_outputs, ("logits", "case_logits")),
                opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
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


def _named(values: Sequence[object], names: Sequence[str]) -> list[str]:
    """As many of the names as there are values."""
    return list(names[: len(values)])


class _Logits(nn.Module):
    """A network of positional arguments, with logits in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()
        self.classifies = bool(getattr(network, "classifies", False))

    def forward(self, image: torch.Tensor, facts: torch.Tensor | None = None) -> Any:
        """Logits of windows; those of the class of the case too, if the network classifies cases."""
        further: dict[str, Any] = {} if facts is None else {"facts": facts}
        if not self.classifies:
            return self.network(image, **further).float()
        outputs = self.network(image, named=True, **further)
        return outputs["logits"].float(), outputs["case_logits"].float()


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
