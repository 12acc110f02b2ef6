"""Names of ResNets: from those of a network that was put into a sequence of its layers to those of timm."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Layers of torchvision's ResNet by their number; 2, 3 and 8 are without tensors."""
_FIRST = re.compile(r"^(?P<prefix>(?:.*\.)?)4\.0\.conv1\.weight$")


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, those of a ResNet whose layers are numbered under their names.

    ``nn.Sequential(*resnet.children())``, as SeCo (``encoder_q.4.0.conv1.weight``) and Lightning's self-supervised
    networks have it. What does not belong to such a network keeps its name.

    Args:
        state: Tensors by name; names may begin with anything.

    Example:
        >>> import torch
        >>> names = ["encoder_q.0.weight", "encoder_q.4.0.conv1.weight", "heads_q.0.0.weight"]
        >>> list(renamed({name: torch.ones(1) for name in names}))
        ['encoder_q.conv1.weight', 'encoder_q.layer1.0.conv1.weight', 'heads_q.0.0.weight']
    """
    prefixes = [match["prefix"] for name in state if (match := _FIRST.match(name))]
    return {_renamed(name, prefixes): tensor for name, tensor in state.items()}


def _renamed(name: str, prefixes: list[str]) -> str:
    for prefix in prefixes:
        number, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and number in _CHILDREN:
            return f"{prefix}{_CHILDREN[number]}.{rest}"
    return name
