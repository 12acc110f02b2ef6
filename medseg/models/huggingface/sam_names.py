"""Tensors of the Segment Anything Model under transformers' names: its authors, and MedSAM, have others."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_AUTHORS = re.compile(r"^(?:module\.)?image_encoder\.")
_RULES = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^blocks\.(\d+)\.norm", r"layers.\1.layer_norm"),
        (r"^blocks\.", "layers."),
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^neck\.0\.", "neck.conv1."),
        (r"^neck\.1\.", "neck.layer_norm1."),
        (r"^neck\.2\.", "neck.conv2."),
        (r"^neck\.3\.", "neck.layer_norm2."),
    )
]


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder of a file of SAM's authors as transformers names it; other files as they are.

    Example:
        >>> import torch
        >>> list(renamed({"image_encoder.blocks.0.norm1.bias": torch.ones(2), "mask_decoder.a": torch.ones(1)}))
        ['vision_encoder.layers.0.layer_norm1.bias', 'mask_decoder.a']
    """
    return {_name(name): tensor for name, tensor in state.items()}


def _name(name: str) -> str:
    if not _AUTHORS.match(name):
        return name
    own = _AUTHORS.sub("", name)
    for pattern, new in _RULES:
        own = pattern.sub(new, own)
    return f"vision_encoder.{own}"
