"""What logits depend on, found without computing: the shape they get, and parameters that do nothing for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import torch
from torch import nn
from torch.func import functional_call


def trace(net: nn.Module, shape: Sequence[int], *, training: bool = False) -> tuple[tuple[int, ...], set[str]]:
    """Shape of the logits of an image, and names of the parameters that these logits depend on.

    The network runs on the meta device: shapes and the graph of gradients, but no arithmetic, no memory and
    no random numbers kept.

    Args:
        net: Maps one tensor to one tensor; in training perhaps to a list of them, or to a mapping of ``logits`` and
            other outputs.
        shape: Shape of the image, with batch and channels.
        training: Whether as in training, where some networks give logits besides; else as in evaluation.

    Returns:
        Shape of the first logits, and names for all outputs.

    Example:
        >>> net = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3, affine=False))
        >>> shape, names = trace(net, (1, 2, 5))
        >>> shape, sorted(names)
        ((1, 3, 5), ['0.bias', '0.weight'])
    """
    leaves = {name: torch.empty_like(p, device="meta", requires_grad=True) for name, p in net.named_parameters()}
    buffers = {name: torch.empty_like(buffer, device="meta") for name, buffer in net.named_buffers()}
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            image = torch.empty(tuple(shape), device="meta")
            returned = functional_call(net.train(training), leaves | buffers, (image,))
    finally:
        for module, mode in modes.items():
            module.training = mode
    levels = _levels(returned)
    reached = _leaves([level.grad_fn for level in levels])
    return tuple(levels[0].shape), {name for name, leaf in leaves.items() if id(leaf) in reached}


def _levels(returned: Any) -> list[torch.Tensor]:
    """Every tensor that a network returned, its logits first."""
    if not isinstance(returned, Mapping):
        return returned if isinstance(returned, list) else [returned]
    logits, others = returned["logits"], [returned[name] for name in returned if name != "logits"]
    return [level for output in (logits, *others) for level in _levels(output)]


def drop_idle(net: nn.Module, used: Set[str]) -> dict[str, nn.Module]:
    """Replace modules none of whose parameters is used by ``nn.Identity``, in place.

    They would train to nothing, and distributed training stops over parameters without a gradient.

    Args:
        net: A network.
        used: Names of the parameters that its logits depend on, from ``trace``.

    Returns:
        What was dropped, by name.
    """
    dropped: dict[str, nn.Module] = {}
    for name, module in list(net.named_modules()):
        own = {f"{name}.{key}" for key, _ in module.named_parameters()}
        if name and own and not own & used and not name.startswith(tuple(f"{d}." for d in dropped)):
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, nn.Identity())
            dropped[name] = module
    return dropped


def _leaves(nodes: Sequence[Any]) -> set[int]:
    """Identities of the leaf tensors that nodes of the graph of gradients go back to."""
    waiting, visited, leaves = list(nodes), set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return leaves
