"""Skeleton recall: share of the probability along the labelled centrelines, for thin structures."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from medseg.errors import InputError
from medseg.labels import LabelTable
from medseg.losses.ranks import sum_over_ranks
from medseg.losses.structures import StructureLoss, Structures
from medseg.topology.thinning import centrelines


@torch.no_grad()
def tubes(target: Bool[Tensor, "b n *s"], radius: int) -> Bool[Tensor, "b n *s"]:
    """The centreline of each mask and what lies within ``radius`` cells of it along every axis, inside the mask.

    Args:
        target: Masks in 2D or 3D.
        radius: 0 for the centreline alone.
    """
    lines = centrelines(target.flatten(0, 1)).unflatten(0, target.shape[:2]).float()
    pool = functional.max_pool2d if target.ndim == 4 else functional.max_pool3d
    return (pool(lines, 2 * radius + 1, stride=1, padding=radius) > 0) & target


def skeleton_recall(
    prob: Float[Tensor, "b n *s"], tube: Bool[Tensor, "b n *s"], *, smooth: float = 1.0, gather: bool = False
) -> Float[Tensor, " n"]:
    r"""Share of the cells of each structure's tube that is predicted, over the cells of the batch.

    .. math:: (\sum_s p_s t_s + \epsilon) / (\sum_s t_s + \epsilon)

    with p the probability, t the tube and epsilon = ``smooth``; 1 for a structure without labelled cells.

    Args:
        prob: Probability of each structure; 0 where a cell does not count.
        tube: Cells around the labelled centreline; false where a cell does not count.
        smooth: Pseudo-count, in cells.
        gather: Take the batch of all ranks, see ``sum_over_ranks``.

    Returns:
        Scores in [0, 1], 1 is perfect.

    References:
        Kirchhoff et al., Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin
        Tubular Structures, ECCV 2024. They take the centrelines of all foreground together and prepare them with
        the data; here they are those of each structure, computed from the label in every step.
    """
    cells = [axis for axis in range(prob.ndim) if axis != 1]
    hit, length = sum_over_ranks(torch.stack([(prob * tube).sum(cells), tube.float().sum(cells)]), gather=gather)
    return (hit + smooth) / (length + smooth)


class SkeletonRecallLoss(StructureLoss):
    """One minus the mean skeleton recall: softmax classes without the background, or sigmoid regions if there are any.

    No loss on its own, as it says nothing of false cells; it goes with Dice and cross-entropy. The cells of all images
    are evaluated together; in training those of all ranks.

    Attributes:
        radius: Width of the tube to each side of the centreline, in cells.
        smooth: Pseudo-count, in cells; positive.
    """

    def __init__(self, labels: LabelTable, *, radius: float = 2, smooth: float = 1.0) -> None:
        super().__init__(labels)
        if not (smooth > 0 and radius >= 0 and radius == int(radius)):
            raise InputError(
                f"loss skeleton_recall: expected smooth > 0 and a radius of 0 or more whole cells, got {smooth} and "
                f"{radius}"
            )
        self.radius, self.smooth = int(radius), smooth

    def cost(self, structures: Structures) -> Float[Tensor, ""]:
        """Loss in [0, 1)."""
        tube = tubes(structures.target, self.radius)
        recall = skeleton_recall(structures.prob, tube, smooth=self.smooth, gather=self.training)
        return structures.mean(1 - recall, gather=self.training)
