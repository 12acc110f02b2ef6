"""From logits to classes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable


def prob_of(logits: Float[Tensor, "k *s"], labels: LabelTable) -> Float[Tensor, "k *s"]:
    """Softmax of logits; with regions, which overlap, the sigmoid of each."""
    return logits.sigmoid() if labels.regions else logits.softmax(0)


def logits_of(prob: Float[Tensor, "k *s"], labels: LabelTable) -> Float[Tensor, "k *s"]:
    """Logits of which ``prob_of`` gives these probabilities back; infinite where they are 0 or 1.

    Example:
        >>> table = LabelTable.declare({"background": 0, "liver": 1})
        >>> prob_of(logits_of(torch.tensor([0.25, 0.75]), table), table)
        tensor([0.2500, 0.7500])
    """
    return prob.logit() if labels.regions else prob.log()


def entropy(prob: Float[Tensor, "k *s"], labels: LabelTable) -> Float[Tensor, " *s"]:
    """Shannon entropy of each cell in nats, at most ``log(k)``; with regions the sum over them, at most ``k log 2``.

    Example:
        >>> table = LabelTable.declare({"background": 0, "liver": 1})
        >>> entropy(torch.tensor([[0.5, 1.0], [0.5, 0.0]]), table)
        tensor([0.6931, 0.0000])
    """
    own = torch.special.entr(prob)
    return (own + torch.special.entr(1 - prob) if labels.regions else own).sum(0)


def decide(logits: Float[Tensor, "k *s"], labels: LabelTable) -> Int[Tensor, " *s"]:
    """Training index of each cell.

    Softmax classes: the largest logit, the lower index on a tie. Regions: each region whose logit
    exceeds 0 (probability above one half) is painted in the table's order; the rest is background.

    Raises:
        InputError: The number of logits is not the table's number of outputs.
    """
    if len(logits) != labels.n_outputs:
        raise InputError(f"got {len(logits)} logits for {labels.n_outputs} outputs of the label table")
    if not labels.regions:
        return logits.max(0).indices  # the first on a tie, as argmax, which takes eight times as long on a CPU
    index = torch.zeros(logits.shape[1:], dtype=torch.int64, device=logits.device)
    for region, logit in zip(labels.regions, logits, strict=True):
        index[logit > 0] = region.paint
    return index
