"""What logits depend on, found without computing: the shape they get, and parameters that do nothing for them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import nn
from torch.func import functional_call


def trace(net: nn.Module, shape: Sequence[int]) -> tuple[tuple[int, ...], set[str]]:
    """Shape of the logits of an image, and names of the parameters that these logits depend on.

    The network runs on the meta device, in evaluation: shapes and the graph of gradients, but no
    arithmetic, no memory and no random numbers.

    Args:
        net: Maps one tensor to one tensor.
        shape: Of the image, with batch and channels.

    Example:
        >>> net = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3, affine=False))
        >>> shape, names = trace(net, (1, 2, 5))
        >>> shape, sorted(names)
        ((1, 3, 5), ['0.bias', '0.weight'])
    """
    leaves = {name: torch.empty_like(p, device="meta", requires_grad=True) for name, p in net.named_parameters()}
    buffers = {name: buffer.to("meta") for name, buffer in net.named_buffers()}
    trained = net.training
    try:
        with torch.enable_grad():
            logits = functional_call(net.eval(), leaves | buffers, (torch.empty(tuple(shape), device="meta"),))
    finally:
        net.train(trained)
    reached = _leaves(logits.grad_fn)
    return tuple(logits.shape), {name for name, leaf in leaves.items() if id(leaf) in reached}


def drop_idle(net: nn.Module, used: Set[str]) -> None:
    """Replace modules none of whose parameters is used by ``nn.Identity``, in place.

    They would train to nothing, and distributed training stops over parameters without a gradient.

    Args:
        net: A network.
        used: Names of the parameters that its logits depend on, from ``trace``.
    """
    dropped: list[str] = []
    for name, module in list(net.named_modules()):
        own = {f"{name}.{key}" for key, _ in module.named_parameters()}
        if own and not own & used and not name.startswith(tuple(f"{d}." for d in dropped)):
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, nn.Identity())
            dropped.append(name)


def _leaves(node: Any) -> set[int]:
    """Identities of the leaf tensors that a node of the graph of gradients goes back to."""
    waiting, seen, found = [node], set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found
