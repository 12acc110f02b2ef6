"""Pseudo labels: targets that a network's probabilities give, how far logits are from them, and where they count.

Arrays ``[b, m, *s]`` have one entry for a cell (m = 1) where outputs are classes, and one for each region otherwise: a
cell may be certain to lie in one region while another one is unknown.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def confidence(prob: Float[Tensor, "b k *s"], *, regions: bool) -> Float[Tensor, "b m *s"]:
    """Probability of the likeliest class, or of each region's likelier state, inside or outside."""
    return torch.maximum(prob, 1 - prob) if regions else prob.amax(1, keepdim=True)


def hard(prob: Float[Tensor, "b k *s"], *, regions: bool) -> Float[Tensor, "b k *s"]:
    """1 for the likeliest class (the first of equal ones), or for regions of more than 0.5; else 0."""
    if regions:
        return (prob > 0.5).to(prob)
    return torch.zeros_like(prob).scatter_(1, prob.argmax(1, keepdim=True), 1.0)


def sharpened(prob: Float[Tensor, "b k *s"], temperature: float, *, regions: bool) -> Float[Tensor, "b k *s"]:
    """Probabilities at a temperature: ``p^(1/T)``, divided by its sum over the classes, or over inside and outside.

    That is the softmax of logits divided by T. Cells whose probabilities are all 0, which a view does not show, stay 0.

    Example:
        >>> sharpened(torch.tensor([[[0.75], [0.25]]]), 0.5, regions=False).flatten().tolist()
        [0.8999999761581421, 0.10000000149011612]
    """
    power = prob.pow(1 / temperature)
    total = power + (1 - prob).pow(1 / temperature) if regions else power.sum(1, keepdim=True)
    return power / total.clamp(min=torch.finfo(prob.dtype).tiny)


def divergence(
    logits: Float[Tensor, "b k *s"], target: Float[Tensor, "b k *s"], *, regions: bool
) -> Float[Tensor, "b m *s"]:
    """Kullback-Leibler divergence of each cell's distribution from the target, in nats.

    Of classes that over classes; of each region that over inside and outside. Of a ``hard`` target it is the
    cross-entropy.
    """
    if not regions:
        return functional.kl_div(logits.log_softmax(1), target, reduction="none").sum(1, keepdim=True)
    inside = functional.kl_div(functional.logsigmoid(logits), target, reduction="none")
    return inside + functional.kl_div(functional.logsigmoid(-logits), 1 - target, reduction="none")


def summed(values: Float[Tensor, "b m *s"], counted: Bool[Tensor, "b #m *s"]) -> Float[Tensor, ""]:
    """Mean over m, summed over the cells; 0 where something does not count, be it NaN."""
    return torch.where(counted, values, 0.0).mean(1).sum()
