"""Exclusion loss: what a partially annotated case calls an annotated class is none of the others."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.targets import blank_uncounted, counted_cells


def exclusion(
    logits: Float[Tensor, "b k *s"],
    label: Int[Tensor, "b *s"],
    valid: Bool[Tensor, "b *s"],
    annotated: Bool[Tensor, "b k"],
    *,
    gather: bool = False,
) -> Float[Tensor, ""]:
    """Mean probability of all classes that a case does not annotate, in cells that it labels as a foreground class.

    The mean goes over such cells of patches that do not annotate every class; 0, with zero gradient, where there are
    none. The exclusion Dice of Shi et al. sums the same products; this is their mean.

    Args:
        logits: Unnormalised class scores, not marginal.
        label: Class of each cell, in [0, k) with 0 for the background, or ``IGNORE``.
        valid: False where a cell does not count.
        annotated: Which classes each patch annotates.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Value in [0, 1]. Differentiable in ``logits``.

    References:
        Shi et al., Marginal loss and exclusion loss for partially supervised multi-organ segmentation, 2021.
    """
    counted = counted_cells(label, valid)
    prob = blank_uncounted(logits, counted).softmax(dim=1)
    per_cell = (*annotated.shape, *[1] * (label.ndim - 1))
    other = ~annotated.view(per_cell)
    cells = counted & (label > 0) & other.any(dim=1)
    return ratio((prob * other * cells[:, None]).sum(), cells.sum().float(), gather=gather)


class ExclusionLoss(nn.Module):
    """Mean probability of classes that are not annotated, in cells of classes that are; 0 for complete cases.

    Cross-entropy says that too, with the weight of all cells. In training it is the mean over the cells of all ranks.
    """

    needs: ClassVar[tuple[str, ...]] = ("annotated",)
    merged: ClassVar[bool] = False

    def __init__(self, labels: LabelTable) -> None:
        super().__init__()
        if labels.regions or not labels.background:
            kind = "regions, which may overlap" if labels.regions else "classes without a background"
            raise InputError(f"loss exclusion: got {kind}, expected classes with a background; leave the term out")

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss in [0, 1]; ``label`` holds training indices or ``IGNORE``."""
        own = torch.ones(logits.shape[:2], dtype=torch.bool, device=label.device) if annotated is None else annotated
        return exclusion(logits, label, valid, own, gather=self.training)
