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
