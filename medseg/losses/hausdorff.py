"""Hausdorff loss by distance transform: squared errors weighted by their distance to both boundaries."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.cross_entropy import ratio
from medseg.losses.distance import checked_spacing, signed_distance
from medseg.losses.structures import StructureLoss, Structures, counted_in_structures


def hausdorff_dt(
    prob: Float[Tensor, "b n *s"],
    target: Bool[Tensor, "b n *s"],
    counted: Bool[Tensor, "b *s"],
    *,
    alpha: float = 2.0,
    spacing: Sequence[float] | None = None,
    annotated: Bool[Tensor, "b n"] | None = None,
    gather: bool = False,
) -> Float[Tensor, ""]:
    r"""Mean squared error, weighted by powers of the distance to the predicted and to the labelled boundary.

    .. math:: \sum_{s,c} (p_{sc} - g_{sc})^2 (d_p^\alpha + d_g^\alpha) / \sum_{s,c} 1

    over counted cells s and structures c, with d_p and d_g the distance of a cell to the boundary of the cells with a
    probability above 1/2, and to that of the label. Distances are constants to the gradient; those to a boundary that
    is nowhere are 0. Zero, with zero gradient, where no cell counts.

    Args:
        prob: Probability of each structure; 0 where a cell does not count.
        target: True where a cell belongs to a structure; false where a cell does not count.
        counted: False where a cell does not count.
        alpha: Power of the distances, positive.
        spacing: Distance between cell centres along each axis; 1 if absent.
        annotated: Which structures each image annotates; others do not count. None for all.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    References:
        Karimi and Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation with Convolutional Neural
        Networks, 2019; its loss by distance transform.
    """
    masks = (prob > 0.5, target)
    to_pred, to_label = (signed_distance(mask, counted, spacing).abs() ** alpha for mask in masks)
    cells = counted_in_structures(counted, annotated, prob.shape[1])
    total = ((prob - target.float()) ** 2 * (to_pred + to_label) * cells).sum()
    return ratio(total, cells.sum().float(), gather=gather)


class HausdorffLoss(StructureLoss):
    """Hausdorff loss of the structures: softmax classes without the background, or sigmoid regions if there are any.

    Cells that do not count are no boundary, and add nothing.

    Attributes:
        alpha: Power of the distances.
        spacing: Distance between cell centres along each axis; None for cells.
    """

    def __init__(self, labels: LabelTable, *, alpha: float = 2.0, spacing: Sequence[float] | None = None) -> None:
        super().__init__(labels)
        if not alpha > 0:
            raise InputError(f"loss hausdorff: alpha must be positive, got {alpha}")
        self.alpha = alpha
        self.spacing = checked_spacing(spacing, loss="hausdorff")

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss in the unit of ``spacing`` to the power ``alpha``."""
        prob, target, counted, _, annotated = structures
        return hausdorff_dt(
            prob, target, counted, alpha=self.alpha, spacing=self.spacing, annotated=annotated, gather=self.training
        )
