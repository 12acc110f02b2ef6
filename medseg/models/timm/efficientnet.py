"""Names of EfficientNets: from those of the first port to PyTorch to those of timm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby

from torch import Tensor

_STEM = re.compile(r"^(?P<prefix>(?:.*\.)?)_conv_stem\.weight$")
_BLOCK = re.compile(r"_blocks\.(?P<number>\d+)\.(?P<layer>_\w+)\.(?P<leaf>\w+)")
_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Layers outside of blocks."""
_SHARED = {"_depthwise_conv": "conv_dw", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_PLAIN = _SHARED | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of a block that does not expand its channels first."""
_EXPANDING = _SHARED | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, those of an EfficientNet under the names of timm.

    The first port to PyTorch numbers all blocks (``_blocks.7._depthwise_conv.weight``), timm the blocks of each stage
    (``blocks.3.1.conv_dw.weight``). A stage is a run of blocks with as many channels at their end, since each stage of
    every size (B0 to B8, L2, Lite 0 to 4) has another number of them. Encoders of segmentation-models-pytorch
    have the names of the first port. What does not belong to such a network keeps its name.

    Args:
        state: Tensors by name; names may begin with anything, such as ``module.`` or ``model.encoder.``.

    References:
        Tan and Le, EfficientNet, 2019. Melas-Kyriazi, EfficientNet-PyTorch, 2019.

    Example:
        >>> import torch
        >>> names = ["_conv_stem.weight", "_blocks.0._project_conv.weight", "_blocks.0._bn2.bias", "_fc.bias"]
        >>> list(renamed({name: torch.ones(1) for name in names}))
        ['conv_stem.weight', 'blocks.0.0.conv_pw.weight', 'blocks.0.0.bn2.bias', 'classifier.bias']
    """
    prefix = next((found["prefix"] for name in state if (found := _STEM.match(name))), None)
    if prefix is None:
        return dict(state)
    names = dict(_new_names({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}))
    return {prefix + names[key] if (key := _bare(name, prefix)) in names else name: t for name, t in state.items()}


def _bare(name: str, prefix: str) -> str:
    return name[len(prefix) :] if name.startswith(prefix) else ""


def _new_names(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Old and new name of each tensor that belongs to the network."""
    places = _places(state)
    for name in state:
        layer, _, leaf = name.partition(".")
        if layer in _AROUND:
            yield name, f"{_AROUND[layer]}.{leaf}"
        elif (block := _BLOCK.fullmatch(name)) and (number := int(block["number"])) in places:
            layers = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in state else _PLAIN
            if block["layer"] in layers:
                yield name, f"blocks.{places[number]}.{layers[block['layer']]}.{block['leaf']}"


def _places(state: Mapping[str, Tensor]) -> dict[int, str]:
    """Stage, and place in it, of each block by its number."""
    blocks = ((_BLOCK.fullmatch(name), len(tensor)) for name, tensor in state.items() if tensor.ndim)
    ends = sorted(
        (int(b["number"]), n) for b, n in blocks if b and (b["layer"], b["leaf"]) == ("_project_conv", "weight")
    )
    stages = enumerate(groupby(ends, key=lambda end: end[1]))
    return {number: f"{stage}.{place}" for stage, (_, run) in stages for place, (number, _) in enumerate(run)}
