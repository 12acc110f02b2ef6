"""Sums over the ranks of a distributed training, so that a loss is that of the batch of all ranks."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def sum_over_ranks(values: Shaped[Tensor, " *n"], *, gather: bool) -> Shaped[Tensor, " *n"]:
    """Sum of each value over all ranks; ``values`` itself in a single process, or without ``gather``.

    The gradient of a value is that of its sum, times the number of ranks, as DDP divides gradients by that number
    afterwards: weights then move as in one process with the batch of all ranks. Nothing is communicated backward.

    Args:
        values: Values of this rank; of the same shape on all ranks, all of which must call this.
        gather: Whether the other ranks take part; they do in training, not in validation, where each rank has
            another number of cases.
    """
    if not gather or world_size() == 1:
        return values
    summed: Tensor = _Sum.apply(values)
    return summed


def mean_over_ranks(values: Shaped[Tensor, " *n"]) -> Shaped[Tensor, " *n"]:
    """Mean of each value over all ranks, without a gradient."""
    ranks = world_size()
    if ranks == 1:
        return values.detach()
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / ranks


def largest_of_ranks(value: Shaped[Tensor, " *n"], *, gather: bool) -> Shaped[Tensor, " *n"]:
    """Largest of the values of all ranks, without a gradient; ``gather`` as in ``sum_over_ranks``."""
    if not gather or world_size() == 1:
        return value.detach()
    largest = value.detach().clone()
    distributed.all_reduce(largest, op=distributed.ReduceOp.MAX)
    return largest


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return grads[0] * world_size()
