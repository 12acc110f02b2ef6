"""Boundary loss: probability weighted by the distance to the labelled boundary."""

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.distance import checked_spacing, signed_distance
from medseg.losses.structures import StructureLoss, Structures, counted_in_structures


def boundary(
    prob: Float[Tensor, "b n *s"],
    distance: Float[Tensor, "b n *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    annotated: Bool[Tensor, "b n"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean of the probability of each structure times the signed distance to its labelled boundary.

    .. math:: \sum_{s,c} p_{sc} \phi_{sc} / \sum_{s,c} 1

    over counted cells s and structures c. Least, and negative, where all of the structure and nothing else has
    probability 1. Zero, with zero gradient, where no cell counts.

    Args:
        prob: Probability of each structure.
        distance: Signed distance phi to the labelled boundary, negative inside.
        counted: False where a cell does not count.
        annotated: Which structures each image annotates; others do not count. None for all.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    References:
        Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019. Their distance is less by
        one cell inside; this one has the same size on both sides of the boundary.
    """
    cells = counted_in_structures(counted, annotated, prob.shape[1])
    return ratio((prob * distance * cells).sum(), cells.sum().float(), gather=gather)


class BoundaryLoss(StructureLoss):
    """Boundary loss of the structures: softmax classes without the background, or sigmoid regions if there are any.

    No loss on its own: with nothing predicted it is 0, next to which its gradient vanishes; it goes with Dice or
    cross-entropy. Cells that do not count are no boundary, and add nothing. A structure that an image has nowhere or
    everywhere has no boundary there, and costs nothing.

    Attributes:
        needs: The progress of the training, and what each image annotates.
        spacing: Distance between cell centres along each axis; None for cells.
        start: Weight at the start of the training, from which it rises linearly to 1 at its end.
    """

    needs: ClassVar[tuple[str, ...]] = ("progress", "annotated")

    def __init__(self, labels: LabelTable, *, spacing: Sequence[float] | None = None, start: float = 0.0) -> None:
        super().__init__(labels)
        if not 0 <= start <= 1:
            raise InputError(f"loss boundary: start must lie in [0, 1] (1 is a constant weight), got {start}")
        self.start = start
        self.spacing = checked_spacing(spacing, loss="boundary")

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss in the unit of ``spacing``, at full weight; it may be negative."""
        prob, target, counted, _, annotated = structures
        distance = signed_distance(target, counted, self.spacing)
        return boundary(prob, distance, counted, annotated=annotated, gather=self.training)

    def forward(
        self,
        logits: Float[Tensor, "b k *s"],
        label: Int[Tensor, "b *s"],
        valid: Bool[Tensor, "b *s"],
        annotated: Bool[Tensor, "b k"] | None = None,
        *,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Loss times the weight at this share of the training."""
        weight = self.start + (1 - self.start) * progress
        return weight * super().forward(logits, label, valid, annotated)
