"""Weights from another implementation of the same layers, by their order."""

from collections.abc import Iterable

import torch
from torch import nn


def copy_in_order(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> None:
    """Fill the first of each pair with the parameters and buffers of the second, shapes agreeing but for ones."""
    with torch.no_grad():
        for ours, theirs in pairs:
            for target, source in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
                target.copy_(source.reshape(target.shape))


def scramble(module: nn.Module) -> nn.Module:
    """Draw every parameter and running statistic anew, so that none is at its start."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise + 0.5 if name.endswith("running_var") else noise - 0.4)
    return module
